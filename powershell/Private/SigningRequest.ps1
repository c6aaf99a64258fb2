# Signing requests: submitted, awaited, ended, shown.

function Submit-Form {
    # The id of the signing request that the form makes: one, however often it has to be sent.
    param([hashtable] $Connection, [string] $Action, [object[]] $Parts, [string] $What)
    $call = @{
        What    = $What
        Method  = 'POST'
        Path    = $Connection.Requests + $Action
        Parts   = $Parts
        Key     = [Guid]::NewGuid().ToString('N')
        Seconds = $Connection.TransferSeconds
    }
    $answer = Invoke-Call $Connection $call
    $id = ($answer.Location -split '[?#]')[0].TrimEnd('/') -replace '^.*/', ''
    if ($answer.Json -and $answer.Json.PSObject.Properties['signingRequestId']) {
        $id = [string] $answer.Json.signingRequestId
    }
    if ($id -notmatch '\A[0-9A-Za-z-]{1,100}\z') {
        throw New-SealwrightError -Id 'UnexpectedAnswer' -Category InvalidResult -Message 'The answer names no signing request.' `
            -Advice 'Check that -ApiUrl is a Sealwright server.'
    }
    if ($answer.Json -and $answer.Json.PSObject.Properties['signingRequestUrl']) {
        Write-Verbose "Signing request: $($answer.Json.signingRequestUrl)"
    }
    $id
}

function Wait-FinalStatus {
    # The final status, by polling.
    param([hashtable] $Connection, [string] $SigningRequestId, [int] $Seconds)
    $call = @{
        What   = "Reading signing request $SigningRequestId"
        Method = 'GET'
        Path   = "$($Connection.Requests)/$([Uri]::EscapeDataString($SigningRequestId))"
    }
    $clock = [Diagnostics.Stopwatch]::StartNew()
    $pause = 0.25
    $last = ''
    try {
        Show-Waiting $SigningRequestId 'Submitted'
        while ($true) {
            $status = (Invoke-Call $Connection $call).Json
            if (-not $status -or -not $status.PSObject.Properties['isFinalStatus']) {
                throw New-SealwrightError -Id 'UnexpectedAnswer' -Category InvalidResult `
                    -Message 'The answer is not the status of a signing request.' -Advice 'Check that -ApiUrl is a Sealwright server.'
            }
            if ($status.isFinalStatus) {
                return $status
            }
            if ($last -ne $status.workflowStatus) {
                $last = $status.workflowStatus
                $pause = 0.25
                Write-Verbose "Signing request ${SigningRequestId}: $last"
            }
            Show-Waiting $SigningRequestId $last
            if ($clock.Elapsed.TotalSeconds + $pause -gt $Seconds) {
                throw New-WaitError $SigningRequestId $last $Seconds
            }
            Start-Sleep -Milliseconds ([int] ($pause * 1000))
            $pause = [Math]::Min($pause * 1.5, 5)
        }
    }
    finally {
        Write-Progress -Id $script:ProgressId -Activity "Signing request $SigningRequestId" -Completed
    }
}

function Show-Waiting {
    param([string] $SigningRequestId, [string] $Standing, [int] $Percent = -1)
    Write-Progress -Id $script:ProgressId -Activity "Signing request $SigningRequestId" -Status $Standing -PercentComplete $Percent
}

function Get-Standing {
    # The state in words, with how many files are done while they are signed, and that in percent (-1: unknown).
    param([object] $Request)
    $progress = $null
    if ($Request.state -eq 'Processing' -and $Request.PSObject.Properties['progress']) {
        $progress = $Request.progress
    }
    if (-not $progress -or $progress.files -le 0) {
        return $Request.state, -1
    }
    $percent = [Math]::Min(100, [int] [Math]::Floor(100 * $progress.done / $progress.files))
    "Processing: $($progress.stage), $($progress.done) of $($progress.files) files", $percent
}

function New-WaitError {
    param([string] $SigningRequestId, [string] $State, [int] $Seconds)
    $advice = 'Raise -WaitForCompletionTimeoutInSeconds, or call Get-SignedArtifact later.'
    if ($State -eq 'WaitingForApproval') {
        $advice = 'Have it approved, then call Get-SignedArtifact.'
    }
    New-SealwrightError -Id 'WaitTimeout' -Category OperationTimeout -Target $SigningRequestId -Advice $advice `
        -Message "The signing request $SigningRequestId is still $State after $Seconds s."
}

function Assert-Completed {
    # Throw the reason why nothing was signed.
    param([hashtable] $Connection, [string] $SigningRequestId, [string] $State)
    if ($State -eq 'Completed') {
        return
    }
    $reason = ''
    $advice = ''
    try {
        $request = Get-Request $Connection $SigningRequestId
        $reason = $request.reason
        $advice = $request.advice
    }
    catch {
        Write-Verbose "The reason is not known: $($_.Exception.Message)"
    }
    $message = "The signing request $SigningRequestId is $State."
    if ($reason) {
        $message = "The signing request $SigningRequestId is ${State}: $reason"
    }
    $category = switch ($State) {
        'Denied' { 'PermissionDenied' }
        'Canceled' { 'OperationStopped' }
        default { 'InvalidResult' }
    }
    throw New-SealwrightError -Id "SigningRequest$State" -Category $category -Target $SigningRequestId -Message $message -Advice $advice
}

function Get-Request {
    # The request as the own API has it; with Wait (seconds) when it is final, another version than Known, or they are over.
    param([hashtable] $Connection, [string] $SigningRequestId, [int] $Wait = 0, [string] $Known = '')
    $path = "api/v1/signing-requests/$([Uri]::EscapeDataString($SigningRequestId))"
    if ($Wait) {
        $path += "?wait=$Wait"
        if ($Known) {
            $path += "&known=$([Uri]::EscapeDataString($Known))"
        }
    }
    $answer = Invoke-Call $Connection @{ What = "Reading signing request $SigningRequestId"; Method = 'GET'; Path = $path }
    if (-not $answer.Json -or -not $answer.Json.PSObject.Properties['is_final']) {
        throw New-SealwrightError -Id 'UnexpectedAnswer' -Category InvalidResult -Message 'The answer is not a signing request.' `
            -Advice 'Check that -ApiUrl is a Sealwright server.'
    }
    $answer.Json
}

function Stop-Request {
    # Cancel; one that is canceled already stays so.
    param([hashtable] $Connection, [string] $SigningRequestId, [string] $Reason, [int] $Patience = -1, [int] $Seconds = 0)
    $call = @{
        What   = "Canceling signing request $SigningRequestId"
        Method = 'POST'
        Path   = "api/v1/signing-requests/$([Uri]::EscapeDataString($SigningRequestId))/cancel"
        Json   = ConvertTo-Json @{ reason = $Reason } -Compress
    }
    if ($Patience -ge 0) {
        $call['Patience'] = $Patience
    }
    if ($Seconds) {
        $call['Seconds'] = $Seconds
    }
    try {
        (Invoke-Call $Connection $call).Json
    }
    catch {
        $failure = $_
        if ($failure.Exception.Data['Status'] -ne 409) {
            throw $failure
        }
        # a repetition finds what the lost answer to the first call has done
        $request = Get-Request $Connection $SigningRequestId
        if ($request.state -ne 'Canceled') {
            throw $failure
        }
        $request
    }
}

function ConvertTo-SigningRequest {
    # The object that the commands give.
    param([object] $Request)
    $configuration = $null
    if ($Request.artifact_configuration) {
        $configuration = $Request.artifact_configuration.slug
    }
    $parameters = @{}
    foreach ($one in $Request.parameters.PSObject.Properties) {
        $parameters[$one.Name] = $one.Value
    }
    [pscustomobject] @{
        PSTypeName                = 'Sealwright.SigningRequest'
        SigningRequestId          = $Request.id
        State                     = $Request.state
        IsFinal                   = [bool] $Request.is_final
        ProjectSlug               = $Request.project.slug
        SigningPolicySlug         = $Request.signing_policy.slug
        ArtifactConfigurationSlug = $configuration
        Description               = $Request.description
        Parameters                = $parameters
        OriginVerified            = [bool] $Request.origin.verified
        SubmittedAt               = ConvertTo-Time $Request.submitted_at
        FinishedAt                = ConvertTo-Time $Request.finished_at
        OriginalSigningRequestId  = $Request.original_request_id
        Reason                    = $Request.reason
        Advice                    = $Request.advice
        Url                       = $Request.url
    }
}

function ConvertTo-Time {
    # UTC. ConvertFrom-Json makes times of such texts in PowerShell 7 and leaves them in 5.1.
    param([object] $Value)
    if ($Value -is [DateTime]) {
        return $Value.ToUniversalTime()
    }
    if ($Value) {
        [DateTimeOffset]::Parse($Value, [Globalization.CultureInfo]::InvariantCulture).UtcDateTime
    }
}

function Assert-Submission {
    # What the parameter sets cannot say.
    param([string] $Set, [Collections.IDictionary] $Given)
    $policy = [bool] $Given['SigningPolicySlug']
    $faults = @(
        if ($policy -and $Given['SigningPolicyId']) {
            'Give either -SigningPolicySlug or -SigningPolicyId.'
        }
        if (-not $policy -and -not $Given['SigningPolicyId']) {
            'Name the policy: -SigningPolicySlug with -ProjectSlug, or -SigningPolicyId.'
        }
        if ($Set -ne 'Resubmit' -and $policy -and -not $Given['ProjectSlug']) {
            '-SigningPolicySlug needs -ProjectSlug.'
        }
        if ($Given['ArtifactConfigurationSlug'] -and $Given['ArtifactConfigurationId']) {
            'Give either -ArtifactConfigurationSlug or -ArtifactConfigurationId.'
        }
        if ($Given['OutputArtifactPath'] -and -not $Given['WaitForCompletion']) {
            '-OutputArtifactPath needs -WaitForCompletion; without waiting, call Get-SignedArtifact later.'
        }
    )
    if ($faults) {
        throw New-SealwrightError -Id 'ParametersInvalid' -Category InvalidArgument -Message ($faults -join ' ') `
            -Advice 'See Get-Help Submit-SigningRequest.'
    }
}

function Stop-Unwanted {
    # Cancel what was submitted by a command that Ctrl-C has ended: as well as it can be done in the seconds.
    param([hashtable] $Connection, [string] $SigningRequestId, [int] $Seconds)
    try {
        $null = Stop-Request $Connection $SigningRequestId 'The submitting command was stopped.' -Patience $Seconds -Seconds $Seconds
    }
    catch {
        Write-Debug $_.Exception.Message
    }
}

function Wait-Request {
    # The final request: the server holds each answer back until something has changed, or for half a minute.
    param([hashtable] $Connection, [string] $SigningRequestId, [int] $Seconds)
    $clock = [Diagnostics.Stopwatch]::StartNew()
    $state = 'Submitted'
    $told = $state
    $percent = -1
    $wait = 0
    $known = ''
    try {
        while ($true) {
            $left = [int] [Math]::Ceiling($Seconds - $clock.Elapsed.TotalSeconds)
            if ($left -le 0) {
                throw New-WaitError $SigningRequestId $state $Seconds
            }
            Show-Waiting $SigningRequestId $told $percent
            # the first look does not wait, so that it is shown at once where the request stands
            $request = Get-Request $Connection $SigningRequestId -Wait ([Math]::Min($wait, $left)) -Known $known
            if ($request.is_final) {
                return $request
            }
            $state = $request.state
            $line, $percent = Get-Standing $request
            if ($told -ne $line) {
                $told = $line
                Write-Verbose "Signing request ${SigningRequestId}: $told"
            }
            # the progress of files does not end a call that the server holds
            $wait = 30
            if ($state -eq 'Processing') {
                $wait = 10
            }
            if ($request.PSObject.Properties['version']) {
                $known = $request.version
            }
        }
    }
    finally {
        Write-Progress -Id $script:ProgressId -Activity "Signing request $SigningRequestId" -Completed
    }
}
