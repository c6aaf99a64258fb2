# Against a running server. The facts name it: url, organization, token, administratorToken, policies (slug -> id), artifact,
# broken (an artifact that cannot be signed), out (folder).

$Server = @{}
$Target = @{}
if ($Facts) {
    $Server = @{ ApiUrl = $Facts.url; OrganizationId = $Facts.organization; ApiToken = $Facts.token; WarningAction = 'SilentlyContinue' }
    $Target = $Server + @{ ProjectSlug = 'product'; SigningPolicySlug = 'test'; InputArtifactPath = $Facts.artifact }
}
$Missing = '0196b0aa-0000-7000-8000-000000000000'

Test 'live: upload, wait and download' -NeedsServer {
    $path = Join-Path $Facts.out 'signed.zip'
    $id = Submit-SigningRequest @Target -WaitForCompletion -OutputArtifactPath $path -Description 'Nightly'
    Assert-True ($id -match '^[0-9a-f-]{36}$') 'the id is given'
    $request = Get-SigningRequest @Server -SigningRequestId $id
    Assert-Equal $request.State 'Completed'
    Assert-Equal $request.IsFinal $true
    Assert-Equal $request.Description 'Nightly'
    Assert-Equal $request.ArtifactConfigurationSlug 'initial'
    Assert-True ($request.FinishedAt -ge $request.SubmittedAt) 'times are times'
    Assert-True ((Get-Item -LiteralPath $path).Length -gt 1000) 'the signed artifact is there'
}

Test 'live: ids instead of slugs, parameters and origin' -NeedsServer {
    $id = Submit-SigningRequest @Server -SigningPolicyId $Facts.policies.test -InputArtifactPath $Facts.artifact `
        -Parameters @{ version = '1.2' } -Origin @{
        RepositoryData = @{ BranchName = 'main'; CommitId = '4f2a'; Url = 'https://git.example.com/a.git' }
        BuildData      = @{ BuildSettingsFile = "@$(New-File 'build.yml' 'steps: []')" }
    }
    $request = $id | Wait-SigningRequest @Server
    Assert-Equal $request.State 'Completed'
    Assert-Equal $request.Parameters['version'] '1.2'
    Assert-Equal $request.OriginVerified $false
    $path = New-Path
    $request | Get-SignedArtifact @Server -OutputArtifactPath $path
    Assert-True ([IO.File]::Exists($path)) 'the request from the pipeline is fetched'
}

Test 'live: resubmit under another policy' -NeedsServer {
    $first = Submit-SigningRequest @Target -WaitForCompletion
    $path = New-Path
    $second = Submit-SigningRequest @Server -Resubmit -OriginalSigningRequestId $first -SigningPolicySlug 'stamped' -WaitForCompletion -OutputArtifactPath $path
    $request = Get-SigningRequest @Server -SigningRequestId $second
    Assert-Equal $request.OriginalSigningRequestId $first
    Assert-Equal $request.SigningPolicySlug 'stamped'
    Assert-True ([IO.File]::Exists($path)) 'it is saved'
}

Test 'live: a file name and a description in other scripts arrive' -NeedsServer {
    $name = -join [char[]] (0x423, 0x441, 0x442, 0x61, 0xe4, 0x2e, 0x7a, 0x69, 0x70)
    $path = Join-Path $Scratch $name
    [IO.File]::Copy($Facts.artifact, $path)
    $upload = $Target.Clone()
    $upload.InputArtifactPath = $path
    $id = Submit-SigningRequest @upload -Description $name
    $connection = & (Get-Module Sealwright) { param($s) New-Connection -ApiUrl $s.ApiUrl -ApiToken $s.ApiToken -OrganizationId $s.OrganizationId } $Server
    $request = & (Get-Module Sealwright) { param($c, $id) Get-Request $c $id -Wait 30 } $connection $id
    Assert-Equal $request.input.file_name $name
    Assert-Equal $request.description $name
}

Test 'live: a request that fails says why' -NeedsServer {
    $upload = $Target.Clone()
    $upload.InputArtifactPath = $Facts.broken
    $path = New-Path
    $record = Assert-Fails 'Sealwright.SigningRequestFailed' { Submit-SigningRequest @upload -WaitForCompletion -OutputArtifactPath $path }
    Assert-True ($record.Exception.Message -match 'is Failed: .*readme') "the reason is told: $($record.Exception.Message)"
    Assert-True (-not [IO.File]::Exists($path)) 'nothing is saved'
    $null = Assert-Fails 'Sealwright.SigningRequestFailed' { Get-SignedArtifact @Server -SigningRequestId $record.TargetObject -OutputArtifactPath $path }
    Assert-True ((Get-SigningRequest @Server -SigningRequestId $record.TargetObject).Reason -match 'No file matches') 'the request has its reason'
}

Test 'live: a retrieval link to where the server may not go fails the request' -NeedsServer {
    $link = @{ ArtifactRetrievalLink = 'https://127.0.0.1:9/a.zip'; ArtifactRetrievalLinkFileName = 'a.zip' }
    $record = Assert-Fails 'Sealwright.SigningRequestFailed' {
        Submit-SigningRequest @Server @link -SigningPolicyId $Facts.policies.test -WaitForCompletion
    }
    Assert-True ($record.Exception.Message -match '127\.0\.0\.1') "the host is named: $($record.Exception.Message)"
    $link.ArtifactRetrievalLink = 'ftp://files.example.com/a.zip'
    $null = Assert-Fails 'Sealwright.InvalidRequest' { Submit-SigningRequest @Server @link -SigningPolicyId $Facts.policies.test }
}

Test 'live: a request that waits for approval is canceled' -NeedsServer {
    $upload = $Target.Clone()
    $upload.SigningPolicySlug = 'approved'
    $id = Submit-SigningRequest @upload
    $record = Assert-Fails 'Sealwright.WaitTimeout' { Wait-SigningRequest @Server -SigningRequestId $id -WaitForCompletionTimeoutInSeconds 1 }
    Assert-True ($record.Exception.Message.Contains('WaitingForApproval')) 'the state is named'
    $record = Assert-Fails 'Sealwright.WaitTimeout' {
        Get-SignedArtifact @Server -SigningRequestId $id -OutputArtifactPath (New-Path) -WaitForCompletionTimeoutInSeconds 1
    }
    Assert-True ($record.Exception.Message.Contains('Have it approved')) 'the advice fits'
    $canceled = $id | Stop-SigningRequest @Server -Reason 'Wrong build.'
    Assert-Equal $canceled.State 'Canceled'
    Assert-Equal (Stop-SigningRequest @Server -SigningRequestId $id).State 'Canceled'
    $record = Assert-Fails 'Sealwright.SigningRequestCanceled' { Get-SignedArtifact @Server -SigningRequestId $id -OutputArtifactPath (New-Path) }
    Assert-True ($record.Exception.Message.Contains('Wrong build.')) 'the reason is told'
    $done = Submit-SigningRequest @Target -WaitForCompletion
    $null = Assert-Fails 'Sealwright.Conflict' { Stop-SigningRequest @Server -SigningRequestId $done }
}

Test 'live: Ctrl-C while waiting cancels the request on the server' -NeedsServer {
    $upload = $Target.Clone()
    $upload.SigningPolicySlug = 'approved'
    $upload.Description = [Guid]::NewGuid().ToString('N')
    $upload.WaitForCompletion = $true
    $seen = @{ Id = '' }
    $client = [Net.Http.HttpClient]::new()
    $client.DefaultRequestHeaders.Authorization = [Net.Http.Headers.AuthenticationHeaderValue]::new('Bearer', $Facts.token)
    $script = 'param($module, $arguments) Import-Module $module; Submit-SigningRequest @arguments'
    $null = Invoke-AndStop $script $upload {
        $page = ConvertFrom-Json $client.GetStringAsync("$($Facts.url)/api/v1/signing-requests?limit=5").GetAwaiter().GetResult()
        $own = @($page.items | Where-Object { $_.description -eq $upload.Description })
        if ($own.Count) {
            $seen.Id = $own[0].id
            # so that the command has its answer and waits
            Start-Sleep -Seconds 1
        }
        $own.Count -gt 0
    }
    $client.Dispose()
    Assert-Equal (Get-SigningRequest @Server -SigningRequestId $seen.Id).State 'Canceled'
}

Test 'live: a token that is none is refused' -NeedsServer {
    $upload = $Target.Clone()
    $upload.ApiToken = 'swt_user_nonsense'
    $record = Assert-Fails 'Sealwright.Unauthenticated' { Submit-SigningRequest @upload }
    Assert-True (-not "$($record | Format-List * -Force | Out-String)".Contains('nonsense')) 'the token is not shown'
    Assert-Equal $record.CategoryInfo.Category 'AuthenticationError'
}

Test 'live: what is not there is not found' -NeedsServer {
    $upload = $Target.Clone()
    $upload.ProjectSlug = 'nothing'
    $null = Assert-Fails 'Sealwright.NotFound' { Submit-SigningRequest @upload }
    $upload = $Target.Clone()
    $upload.OrganizationId = $Missing
    $null = Assert-Fails 'Sealwright.NotFound' { Submit-SigningRequest @upload }
    $null = Assert-Fails 'Sealwright.NotFound' { Get-SigningRequest @Server -SigningRequestId $Missing }
    $null = Assert-Fails 'Sealwright.NotFound' { Stop-SigningRequest @Server -SigningRequestId $Missing }
    $null = Assert-Fails 'Sealwright.NotFound' { Get-SignedArtifact @Server -SigningRequestId $Missing -OutputArtifactPath (New-Path) }
}

Test 'live: who is no submitter is told so' -NeedsServer {
    $upload = $Target.Clone()
    $upload.ApiToken = $Facts.administratorToken
    $null = Assert-Fails 'Sealwright.Forbidden' { Submit-SigningRequest @upload }
}
