# Signed artifacts on their way to a file, which appears whole or not at all.

function Resolve-Output {
    # The full path of a file that may be written.
    param([string] $Path, [bool] $Force)
    $full = $ExecutionContext.SessionState.Path.GetUnresolvedProviderPathFromPSPath($Path)
    if ([IO.Directory]::Exists($full)) {
        throw New-SealwrightError -Id 'OutputIsFolder' -Category InvalidArgument -Target $full `
            -Message "-OutputArtifactPath $full is a folder." -Advice 'Name the file in it.'
    }
    if (-not $Force -and [IO.File]::Exists($full)) {
        throw New-SealwrightError -Id 'OutputExists' -Category ResourceExists -Target $full `
            -Message "The file $full is there already." -Advice 'Use -Force to overwrite it.'
    }
    $full
}

function Save-SignedArtifact {
    param([hashtable] $Connection, [string] $SigningRequestId, [string] $Path, [bool] $Force)
    $folder = [IO.Path]::GetDirectoryName($Path)
    $partial = Join-Path $folder ".$([IO.Path]::GetFileName($Path)).$([Guid]::NewGuid().ToString('N').Substring(0, 8))"
    $file = $null
    try {
        try {
            $null = [IO.Directory]::CreateDirectory($folder)
            $file = [IO.FileStream]::new($partial, 'CreateNew', 'ReadWrite', 'None', 128KB)
        }
        catch {
            throw New-OutputError $Path $_.Exception
        }
        $call = @{
            What    = "Downloading $([IO.Path]::GetFileName($Path))"
            Method  = 'GET'
            Path    = "$($Connection.Requests)/$([Uri]::EscapeDataString($SigningRequestId))/SignedArtifact"
            File    = $file
            Seconds = $Connection.TransferSeconds
        }
        $answer = Invoke-Call $Connection $call
        Assert-Digest $file $answer.Headers
        $file.Dispose()
        Move-Output $partial $Path $Force
    }
    finally {
        if ($file) {
            $file.Dispose()
        }
        [IO.File]::Delete($partial)
    }
    Write-Verbose "The signed artifact is in $Path."
}

function Save-Body {
    # The body at the end of the file; from the beginning where the server does not go on.
    param([Net.Http.HttpResponseMessage] $Response, [hashtable] $Attempt)
    $call = $Attempt.Call
    $file = $call.File
    if ([int] $Response.StatusCode -ne 206) {
        $file.SetLength(0)
    }
    $null = $file.Seek(0, 'End')
    $call['Tag'] = [string] $Response.Headers.ETag
    $total = -1
    if ($null -ne $Response.Content.Headers.ContentLength) {
        $total = $file.Length + $Response.Content.Headers.ContentLength
    }
    $body = Wait-Transfer $Response.Content.ReadAsStreamAsync() $Attempt
    $buffer = [byte[]]::new(256KB)
    Show-Transfer $Attempt $file.Length $total
    while (($count = Wait-Transfer $body.ReadAsync($buffer, 0, $buffer.Length, $Attempt.Token) $Attempt) -gt 0) {
        try {
            $file.Write($buffer, 0, $count)
        }
        catch {
            throw New-OutputError $file.Name $_.Exception
        }
        Show-Transfer $Attempt $file.Position $total
    }
    $file.Flush()
    if ($total -ge 0 -and $file.Length -ne $total) {
        throw New-SealwrightError -Id 'ConnectionFailed' -Category ConnectionError -Retry `
            -Message "$($call.What): it broke off after $($file.Length) of $total bytes." -Advice 'Check the network.'
    }
}

function Assert-Digest {
    # The file has the SHA-256 that the server names (RFC 9530).
    param([IO.FileStream] $File, [Net.Http.Headers.HttpResponseHeaders] $Headers)
    $values = $null
    if (-not $Headers.TryGetValues('Repr-Digest', [ref] $values)) {
        return
    }
    if ("$values" -notmatch 'sha-256=:([A-Za-z0-9+/=]+):') {
        return
    }
    $expected = $Matches[1]
    $null = $File.Seek(0, 'Begin')
    $sha256 = [Security.Cryptography.SHA256]::Create()
    try {
        $actual = [Convert]::ToBase64String($sha256.ComputeHash($File))
    }
    finally {
        $sha256.Dispose()
    }
    if ($actual -ne $expected) {
        throw New-SealwrightError -Id 'DigestMismatch' -Category SecurityError -Target $expected `
            -Message 'The download does not have the SHA-256 that the server names.' -Advice 'Download it again.'
    }
}

function Move-Output {
    param([string] $Partial, [string] $Path, [bool] $Force)
    try {
        if ($Force -and [IO.File]::Exists($Path)) {
            [IO.File]::Replace($Partial, $Path, [NullString]::Value)
        }
        else {
            [IO.File]::Move($Partial, $Path)
        }
    }
    catch {
        throw New-OutputError $Path $_.Exception
    }
}

function New-OutputError {
    param([string] $Path, [Exception] $Exception)
    New-SealwrightError -Id 'OutputUnwritable' -Category WriteError -Target $Path -Cause $Exception `
        -Message "$Path cannot be written: $($Exception.GetBaseException().Message)" -Advice 'Check the folder and its free space.'
}
