# What goes over the wire, and what the commands make of hard times, against a server that is scripted.

$Token = 'swt_user_0123456789'
$Id = '0196b0aa-0000-7000-8000-000000000001'
$Created = @{ Status = '201 Created'; Body = "{`"signingRequestId`": `"$Id`"}" }
$Running = @{ Status = '200 OK'; Body = '{"status": "InProgress", "isFinalStatus": false, "workflowStatus": "Processing"}' }
$Done = @{ Status = '200 OK'; Body = '{"status": "Completed", "isFinalStatus": true, "workflowStatus": "Completed"}' }
$Away = @{ Status = '503 Service Unavailable'; Headers = @{ 'Retry-After' = '0' } }
$Artifact = New-File 'setup.exe' ('unsigned bytes ' * 1000)

function Get-Common {
    param([hashtable] $Server, [string] $Path = '')
    @{ ApiUrl = "$($Server.Url)$Path"; OrganizationId = 'acme'; ApiToken = $Token; WarningAction = 'SilentlyContinue' }
}

function Get-Upload {
    param([hashtable] $Server, [string] $Path = '')
    (Get-Common $Server $Path) + @{ ProjectSlug = 'product'; SigningPolicySlug = 'release'; InputArtifactPath = $Artifact }
}

function Get-Part {
    # Name (with the file name) -> text of each part of a form, and the names in their order.
    param([hashtable] $Request)
    $parts = @{ Order = @() }
    $boundary = [regex]::Match($Request.Headers['Content-Type'], 'boundary="?([^";]+)').Groups[1].Value
    foreach ($part in $Request.Text -split "(?:\r\n)?--$([regex]::Escape($boundary))(?:--)?(?:\r\n)?") {
        if ($part -match '(?is)content-disposition: form-data; name="?([^";\r]+)"?(?:; filename="?([^";\r]+)"?)?.*?\r\n\r\n(.*)\z') {
            $name = $Matches[1]
            if ($Matches[2]) {
                $name += ":$($Matches[2])"
            }
            $parts[$name] = $Matches[3]
            $parts.Order += $name
        }
    }
    $parts
}

Test 'an upload is the form of the compatible wire' {
    Use-FakeServer @($Created) {
        param($server)
        $upload = (Get-Upload $server) + @{
            ArtifactConfigurationSlug = 'initial'
            Description               = 'Nightly "7"'
            Parameters                = @{ version = '1.2' }
        }
        Assert-Equal (Submit-SigningRequest @upload) $Id
        $request = $server.Requests[0]
        Assert-Equal $request.Line 'POST /API/v1/acme/SigningRequests HTTP/1.1'
        Assert-Equal $request.Headers['Authorization'] "Bearer $Token"
        Assert-Equal $request.Headers['Content-Length'] $request.Text.Length
        $parts = Get-Part $request
        Assert-Equal ($parts.Order -join ' ') 'ProjectSlug SigningPolicySlug ArtifactConfigurationSlug Description Parameters[version] Artifact:setup.exe'
        Assert-Equal $parts['ProjectSlug'] 'product'
        Assert-Equal $parts['Description'] 'Nightly "7"'
        Assert-Equal $parts['Parameters[version]'] '1.2'
        Assert-Equal $parts['Artifact:setup.exe'] ('unsigned bytes ' * 1000)
    }
}

Test 'every form of the address names the same server' {
    Use-FakeServer @($Created) {
        param($server)
        foreach ($path in '', '/', '/API', '/api/', '/Api/v1', '/API/v1/') {
            $upload = Get-Upload $server $path
            $null = Submit-SigningRequest @upload
        }
        $lines = @($server.Requests | ForEach-Object { $_.Line } | Sort-Object -Unique)
        Assert-Equal ($lines -join ' ') 'POST /API/v1/acme/SigningRequests HTTP/1.1'
    }
}

Test 'token and address come from the environment' {
    Use-FakeServer @($Created) {
        param($server)
        $env:SEALWRIGHT_TOKEN = 'swt_from_environment'
        $env:SEALWRIGHT_URL = $server.Url
        try {
            $null = Submit-SigningRequest -OrganizationId acme -SigningPolicyId 7 -InputArtifactPath $Artifact
        }
        finally {
            $env:SEALWRIGHT_TOKEN = $null
            $env:SEALWRIGHT_URL = $null
        }
        Assert-Equal $server.Requests[0].Headers['Authorization'] 'Bearer swt_from_environment'
    }
}

Test 'an origin is nested or dotted, and reads files' {
    $settings = New-File 'build.yml' "steps: []`n"
    $commit = New-File 'commit.txt' "4f2a`n"
    Use-FakeServer @($Created) {
        param($server)
        $upload = (Get-Upload $server) + @{
            Origin = @{
                RepositoryData                = @{ BranchName = '@@odd'; CommitId = "@$commit" }
                'BuildData.Url'               = [Uri] 'https://ci.example.com/7'
                BuildData                     = @{ BuildSettingsFile = "@$settings" }
                'RepositoryData.Url'          = 'https://git.example.com/a.git'
            }
        }
        $null = Submit-SigningRequest @upload
        $parts = Get-Part $server.Requests[0]
        Assert-Equal $parts['Origin.RepositoryData.BranchName'] '@odd'
        Assert-Equal $parts['Origin.RepositoryData.CommitId'] '4f2a'
        Assert-Equal $parts['Origin.RepositoryData.Url'] 'https://git.example.com/a.git'
        Assert-Equal $parts['Origin.BuildData.Url'] 'https://ci.example.com/7'
        Assert-Equal $parts['Origin.BuildData.BuildSettingsFile:build.yml'] "steps: []`n"
        Assert-Equal $parts.Order[-1] 'Artifact:setup.exe'
    }
}

Test 'an origin that cannot be read is refused before anything is sent' {
    Use-FakeServer @($Created) {
        param($server)
        $upload = Get-Upload $server
        $null = Assert-Fails 'Sealwright.InputNotFound' { Submit-SigningRequest @upload -Origin @{ 'BuildData.Url' = '@missing.txt' } }
        $null = Assert-Fails 'Sealwright.OriginInvalid' { Submit-SigningRequest @upload -Origin @{ BuildData = @(1, 2) } }
        Assert-Equal $server.Requests.Count 0
    }
}

Test 'a retrieval link sends the link and no file' {
    Use-FakeServer @($Created) {
        param($server)
        $common = Get-Common $server
        $link = @{
            ArtifactRetrievalLink            = 'https://files.example.com/a.zip?x=1'
            ArtifactRetrievalLinkFileName    = 'a.zip'
            ArtifactRetrievalLinkSha256Hash  = 'ab' * 32
            ArtifactRetrievalLinkHttpHeaders = @{ 'X-Token' = 'Value' }
            SigningPolicyId                  = 'policy-id'
        }
        Assert-Equal (Submit-SigningRequest @common @link) $Id
        $parts = Get-Part $server.Requests[0]
        Assert-Equal $parts['ArtifactRetrievalLink.Url'] 'https://files.example.com/a.zip?x=1'
        Assert-Equal $parts['ArtifactRetrievalLink.FileName'] 'a.zip'
        Assert-Equal $parts['ArtifactRetrievalLink.Sha256Hash'] ('ab' * 32)
        Assert-Equal $parts['ArtifactRetrievalLink.HttpHeaders[X-Token]'] 'Value'
        Assert-Equal $parts['SigningPolicyId'] 'policy-id'
        Assert-Equal $parts.Order.Count 5
    }
}

Test 'a resubmission names the earlier request' {
    Use-FakeServer @($Created) {
        param($server)
        $common = Get-Common $server
        Assert-Equal (Submit-SigningRequest @common -Resubmit -OriginalSigningRequestId 'earlier' -SigningPolicySlug 'release') $Id
        Assert-Equal $server.Requests[0].Line 'POST /API/v1/acme/SigningRequests/Resubmit HTTP/1.1'
        $parts = Get-Part $server.Requests[0]
        Assert-Equal ($parts.Order -join ' ') 'OriginalSigningRequestId SigningPolicySlug'
    }
}

Test 'a submission is repeated under one key until the server is back' {
    Use-FakeServer @($Away, @{ Status = '429 Too Many Requests'; Headers = @{ 'Retry-After' = '0' } }, @{ Drop = $true },
        @{ Status = '502 Bad Gateway' }, $Created) {
        param($server)
        $upload = Get-Upload $server
        Assert-Equal (Submit-SigningRequest @upload) $Id
        Assert-Equal $server.Requests.Count 5
        $keys = @($server.Requests | ForEach-Object { $_.Headers['Idempotency-Key'] } | Sort-Object -Unique)
        Assert-Equal $keys.Count 1 'number of keys'
        Assert-True ($keys[0].Length -ge 32) 'the key cannot be guessed'
        Assert-Equal (Get-Part $server.Requests[4])['Artifact:setup.exe'].Length 15000
        $null = Submit-SigningRequest @upload
        Assert-True ($server.Requests[5].Headers['Idempotency-Key'] -ne $keys[0]) 'another submission has another key'
    }
}

Test 'a server that stays away is given up in time' {
    Use-FakeServer @(@{ Status = '503 Service Unavailable'; Headers = @{ 'Retry-After' = '1' } }) {
        param($server)
        $upload = Get-Upload $server
        $clock = [Diagnostics.Stopwatch]::StartNew()
        $null = Assert-Fails 'Sealwright.Unavailable' { Submit-SigningRequest @upload -ServiceUnavailableTimeoutInSeconds 2 }
        Assert-Equal $server.Requests.Count 2
        Assert-True ($clock.Elapsed.TotalSeconds -lt 10) 'it gave up in time'
        $null = Assert-Fails 'Sealwright.Unavailable' { Submit-SigningRequest @upload -ServiceUnavailableTimeoutInSeconds 0 }
        Assert-Equal $server.Requests.Count 3
    }
}

Test 'nothing listens: the error says where' {
    $server = Start-FakeServer @($Created)
    Stop-FakeServer $server
    $upload = Get-Upload $server
    $record = Assert-Fails 'Sealwright.ConnectionFailed' { Submit-SigningRequest @upload -ServiceUnavailableTimeoutInSeconds 0 }
    Assert-True ($record.Exception.Message.Contains($server.Url)) 'the address is named'
    Assert-Equal $record.CategoryInfo.Category 'ConnectionError'
}

Test 'a refusal is not repeated, and tells what to do' {
    $problem = '{"code": "forbidden", "detail": "robot is no submitter.", "advice": "Have it added."}'
    Use-FakeServer @(@{ Status = '403 Forbidden'; Body = $problem }, @{ Status = '401 Unauthorized' }, @{ Status = '500 Oops'; Body = '<html>' }) {
        param($server)
        $upload = Get-Upload $server
        $record = Assert-Fails 'Sealwright.Forbidden' { Submit-SigningRequest @upload }
        Assert-Equal $record.Exception.Message 'Uploading setup.exe: robot is no submitter. Have it added.'
        Assert-Equal $record.CategoryInfo.Category 'PermissionDenied'
        $record = Assert-Fails 'Sealwright.Unauthenticated' { Submit-SigningRequest @upload }
        Assert-True ($record.Exception.Message.Contains('SEALWRIGHT_TOKEN')) 'the advice names the variable'
        $null = Assert-Fails 'Sealwright.UnexpectedAnswer' { Submit-SigningRequest @upload }
        Assert-Equal $server.Requests.Count 3
    }
}

Test 'errors end the script whatever the error action is' {
    Use-FakeServer @(@{ Status = '403 Forbidden' }) {
        param($server)
        $upload = Get-Upload $server
        foreach ($action in 'SilentlyContinue', 'Continue') {
            $null = Assert-Fails 'Sealwright.Forbidden' { $ErrorActionPreference = $action; Submit-SigningRequest @upload -ErrorAction $action; 'went on' }
        }
    }
}

Test 'no message and no record shows the token' {
    Use-FakeServer @(@{ Status = '401 Unauthorized' }, @{ Drop = $true }, @{ Status = '301 Moved'; Headers = @{ Location = 'https://other.example.com/?a=b' } }) {
        param($server)
        $upload = Get-Upload $server
        $records = @(
            Assert-Fails 'Sealwright.Unauthenticated' { Submit-SigningRequest @upload -Verbose 4>$null }
            Assert-Fails 'Sealwright.ConnectionFailed' { Submit-SigningRequest @upload -ServiceUnavailableTimeoutInSeconds 0 }
            Assert-Fails 'Sealwright.Redirected' { Submit-SigningRequest @upload }
        )
        $upload.ApiToken = "$Token$([char] 127) x"
        $records += Assert-Fails 'Sealwright.ApiTokenInvalid' { Submit-SigningRequest @upload }
        foreach ($record in $records) {
            $text = ($record | Format-List * -Force | Out-String) + ($record.Exception | Format-List * -Force | Out-String) + $record.Exception.ToString()
            Assert-True (-not $text.Contains($Token)) "$($record.FullyQualifiedErrorId) hides the token"
        }
    }
}

Test 'the token never follows a redirect or a foreign address' {
    Use-FakeServer @(@{ Status = '200 OK' }) {
        param($other)
        $moved = @{ Status = '307 Temporary Redirect'; Headers = @{ Location = "$($other.Url)/API/v1/x?secret=1" } }
        $elsewhere = @{ Status = '201 Created'; Headers = @{ Location = "$($other.Url)/API/v1/acme/SigningRequests/$Id" } }
        Use-FakeServer @($moved, $elsewhere, $Done) {
            param($server)
            $upload = Get-Upload $server
            $record = Assert-Fails 'Sealwright.Redirected' { Submit-SigningRequest @upload }
            Assert-True (-not $record.Exception.Message.Contains('secret')) 'the query is not shown'
            Assert-Equal (Submit-SigningRequest @upload -WaitForCompletion) $Id
            Assert-Equal $other.Requests.Count 0
            Assert-Equal $server.Requests[2].Line "GET /API/v1/acme/SigningRequests/$Id HTTP/1.1"
        }
    }
}

Test 'an upload has its time limit' {
    Use-FakeServer @(@{ Status = '201 Created'; Seconds = 4 }) {
        param($server)
        $upload = Get-Upload $server
        $clock = [Diagnostics.Stopwatch]::StartNew()
        $record = Assert-Fails 'Sealwright.RequestTimeout' { Submit-SigningRequest @upload -UploadAndDownloadRequestTimeoutInSeconds 1 }
        Assert-True ($clock.Elapsed.TotalSeconds -lt 3.5) 'it gave up in time'
        Assert-Equal $record.CategoryInfo.Category 'OperationTimeout'
    }
}

Test 'waiting has its time limit' {
    Use-FakeServer @($Created, $Running) {
        param($server)
        $upload = Get-Upload $server
        $record = Assert-Fails 'Sealwright.WaitTimeout' { Submit-SigningRequest @upload -WaitForCompletion -WaitForCompletionTimeoutInSeconds 1 }
        Assert-True ($record.Exception.Message.Contains("$Id is still Processing")) 'the state is named'
        Assert-Equal $record.TargetObject $Id
    }
}

Test 'waiting tells how many files are done' {
    $answers = foreach ($done in 0, 17) {
        $progress = "{`"stage`": `"signing`", `"files`": 242, `"done`": $done}"
        @{ Status = '200 OK'; Body = "{`"state`": `"Processing`", `"is_final`": false, `"version`": `"v$done`", `"progress`": $progress}" }
    }
    Use-FakeServer $answers {
        param($server)
        $common = Get-Common $server
        $told = [Collections.Generic.List[string]]::new()
        $null = Assert-Fails 'Sealwright.WaitTimeout' {
            Wait-SigningRequest @common -SigningRequestId $Id -WaitForCompletionTimeoutInSeconds 1 -Verbose 4>&1 |
                ForEach-Object { $told.Add([string] $_) }
        }
        $lines = @($told | Where-Object { $_ -match 'files' }) -replace '^.*: Processing', 'Processing'
        Assert-Equal ($lines -join '|') 'Processing: signing, 0 of 242 files|Processing: signing, 17 of 242 files'
        Assert-True ($server.Requests[1].Line -match 'wait=1&known=v0') 'the server may hold the second call'
    }
}

Test 'a download that breaks off goes on where it ended' {
    $bytes = [byte[]] (1..200000 | ForEach-Object { $_ % 251 })
    $rest = [byte[]]::new(150000)
    [Array]::Copy($bytes, 50000, $rest, 0, 150000)
    $sha256 = [Convert]::ToBase64String([Security.Cryptography.SHA256]::Create().ComputeHash($bytes))
    $headers = @{ ETag = '"tag"'; 'Repr-Digest' = "sha-256=:${sha256}:" }
    $range = $headers + @{ 'Content-Range' = 'bytes 50000-199999/200000' }
    Use-FakeServer @($Done, @{ Status = '200 OK'; Headers = $headers; Body = $bytes; Cut = 50000 },
        @{ Status = '206 Partial Content'; Headers = $range; Body = $rest }) {
        param($server)
        $common = Get-Common $server
        $path = New-Path
        Get-SignedArtifact @common -SigningRequestId $Id -OutputArtifactPath $path
        Assert-Equal $server.Requests[2].Headers['Range'] 'bytes=50000-'
        Assert-Equal $server.Requests[2].Headers['If-Range'] '"tag"'
        Assert-Equal ([Convert]::ToBase64String([IO.File]::ReadAllBytes($path))) ([Convert]::ToBase64String($bytes)) 'content'
    }
}

Test 'a download begins anew where the server does' {
    Use-FakeServer @($Done, @{ Status = '200 OK'; Body = 'first draft'; Cut = 5 }, @{ Status = '200 OK'; Body = 'signed' }) {
        param($server)
        $common = Get-Common $server
        $path = New-Path
        Get-SignedArtifact @common -SigningRequestId $Id -OutputArtifactPath $path
        Assert-Equal ([IO.File]::ReadAllText($path)) 'signed'
    }
}

Test 'a download that is not what was signed is not kept' {
    Use-FakeServer @($Done, @{ Status = '200 OK'; Body = 'forged'; Headers = @{ 'Repr-Digest' = 'sha-256=:AAAA:' } }) {
        param($server)
        $common = Get-Common $server
        $folder = Join-Path $Scratch 'forged'
        $null = Assert-Fails 'Sealwright.DigestMismatch' {
            Get-SignedArtifact @common -SigningRequestId $Id -OutputArtifactPath (Join-Path $folder 'out.exe')
        }
        Assert-Equal @([IO.Directory]::GetFileSystemEntries($folder)).Count 0 'number of files left'
    }
}

Test 'a file is overwritten only with -Force' {
    Use-FakeServer @($Done, @{ Status = '200 OK'; Body = 'signed' }) {
        param($server)
        $common = Get-Common $server
        $path = New-File 'there.exe' 'older'
        $record = Assert-Fails 'Sealwright.OutputExists' { Get-SignedArtifact @common -SigningRequestId $Id -OutputArtifactPath $path }
        Assert-True ($record.Exception.Message.Contains('-Force')) 'the advice names -Force'
        $upload = Get-Upload $server
        $null = Assert-Fails 'Sealwright.OutputExists' { Submit-SigningRequest @upload -WaitForCompletion -OutputArtifactPath $path }
        Assert-Equal $server.Requests.Count 0 'number of requests'
        Get-SignedArtifact @common -SigningRequestId $Id -OutputArtifactPath $path -Force
        Assert-Equal ([IO.File]::ReadAllText($path)) 'signed'
    }
}

Test '-WhatIf sends and writes nothing' {
    Use-FakeServer @($Done) {
        param($server)
        $upload = Get-Upload $server
        $common = Get-Common $server
        $path = New-Path
        Assert-Equal (Submit-SigningRequest @upload -WaitForCompletion -OutputArtifactPath $path -WhatIf) $null
        Get-SignedArtifact @common -SigningRequestId $Id -OutputArtifactPath $path -WhatIf
        Assert-Equal (Stop-SigningRequest @common -SigningRequestId $Id -WhatIf) $null
        Assert-Equal $server.Requests.Count 0 'number of requests'
        Assert-True (-not [IO.File]::Exists($path)) 'no file is written'
    }
}

Test 'parameters that do not fit together are refused' {
    $common = @{ ApiUrl = 'https://signing.example.com'; OrganizationId = 'acme'; ApiToken = $Token; InputArtifactPath = $Artifact }
    $cases = @(
        @{}
        @{ SigningPolicySlug = 'release' }
        @{ ProjectSlug = 'product' }
        @{ ProjectSlug = 'product'; SigningPolicySlug = 'release'; SigningPolicyId = '7' }
        @{ SigningPolicyId = '7'; ArtifactConfigurationSlug = 'a'; ArtifactConfigurationId = 'b' }
        @{ SigningPolicyId = '7'; OutputArtifactPath = (New-Path) }
    )
    foreach ($case in $cases) {
        $null = Assert-Fails 'Sealwright.ParametersInvalid' { Submit-SigningRequest @common @case }
    }
    $null = Assert-Fails 'AmbiguousParameterSet,Submit-SigningRequest' {
        Submit-SigningRequest @common -SigningPolicyId 7 -Resubmit -OriginalSigningRequestId 1
    }
    $common.InputArtifactPath = New-Path
    $null = Assert-Fails 'Sealwright.InputNotFound' { Submit-SigningRequest @common -SigningPolicyId 7 }
}

Test 'an address that is none is refused, and no token is an error' {
    foreach ($url in 'signing.example.com', 'ftp://signing.example.com', 'https://user:word@signing.example.com', 'https://signing.example.com/?a=b') {
        $null = Assert-Fails 'Sealwright.ApiUrlInvalid' { Get-SigningRequest -ApiUrl $url -ApiToken $Token -SigningRequestId $Id }
    }
    $null = Assert-Fails 'Sealwright.NoApiUrl' { Get-SigningRequest -ApiToken $Token -SigningRequestId $Id }
    $null = Assert-Fails 'Sealwright.NoApiToken' { Get-SigningRequest -ApiUrl https://signing.example.com -SigningRequestId $Id }
}

Test 'a server that speaks something else is recognized' {
    Use-FakeServer @(@{ Status = '200 OK'; Body = '<html>' }) {
        param($server)
        $upload = Get-Upload $server
        $common = Get-Common $server
        $null = Assert-Fails 'Sealwright.UnexpectedAnswer' { Submit-SigningRequest @upload }
        $null = Assert-Fails 'Sealwright.UnexpectedAnswer' { Get-SigningRequest @common -SigningRequestId $Id }
        $null = Assert-Fails 'Sealwright.UnexpectedAnswer' { Get-SignedArtifact @common -SigningRequestId $Id -OutputArtifactPath (New-Path) }
    }
}

Test 'a call goes unencrypted to another machine only with a warning' {
    $seen = [Collections.ArrayList]::new()
    & (Get-Module Sealwright) { Get-ApiRoot 'http://signing.example.com/API' } 3>&1 | ForEach-Object { $null = $seen.Add("$_") }
    Assert-Equal $seen[0] 'The token and the artifacts travel unencrypted to signing.example.com. Use https.'
    Assert-Equal $seen[1] 'http://signing.example.com/'
}

Test 'Ctrl-C while waiting cancels the request' {
    Use-FakeServer @($Created, $Running) {
        param($server)
        $upload = (Get-Upload $server) + @{ WaitForCompletion = $true }
        $script = 'param($module, $arguments) Import-Module $module; Submit-SigningRequest @arguments'
        $seconds = Invoke-AndStop $script $upload { $server.Requests.Count -ge 2 }
        Assert-True ($seconds -lt 10) 'it ended soon'
        $last = $server.Requests[$server.Requests.Count - 1]
        Assert-Equal $last.Line "POST /api/v1/signing-requests/$Id/cancel HTTP/1.1"
        Assert-Equal (ConvertFrom-Json $last.Text).reason 'The submitting command was stopped.'
    }
}

Test 'Ctrl-C leaves the request with a cancellation timeout of 0' {
    Use-FakeServer @($Created, $Running) {
        param($server)
        $upload = (Get-Upload $server) + @{ WaitForCompletion = $true; CancellationTimeoutInSeconds = 0 }
        $script = 'param($module, $arguments) Import-Module $module; Submit-SigningRequest @arguments'
        $null = Invoke-AndStop $script $upload { $server.Requests.Count -ge 2 }
        Assert-Equal @($server.Requests | Where-Object { $_.Line -like 'POST*cancel*' }).Count 0
    }
}

Test 'Ctrl-C breaks off a call that hangs' {
    Use-FakeServer @(@{ Status = '201 Created'; Seconds = 8 }) {
        param($server)
        $upload = Get-Upload $server
        $script = 'param($module, $arguments) Import-Module $module; Submit-SigningRequest @arguments'
        $seconds = Invoke-AndStop $script $upload { $server.Requests.Count -ge 1 }
        Assert-True ($seconds -lt 4) "it ended soon ($seconds s)"
    }
}
