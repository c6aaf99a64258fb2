# Errors as records with an id, a category and what to do next.

function New-SealwrightError {
    # The record to throw. Retry marks what the same call may overcome; RetryAfter is in seconds, -1 where the server
    # named no time.
    param(
        [Parameter(Mandatory)] [string] $Id,
        [Parameter(Mandatory)] [Management.Automation.ErrorCategory] $Category,
        [Parameter(Mandatory)] [string] $Message,
        [string] $Advice = '',
        [object] $Target = $null,
        [Exception] $Cause = $null,
        [int] $Status = 0,
        [switch] $Retry,
        [double] $RetryAfter = -1
    )
    $text = $Message
    if ($Advice) {
        $text = "$Message $Advice"
    }
    $exception = [InvalidOperationException]::new($text, $Cause)
    $exception.Data['Advice'] = $Advice
    $exception.Data['Status'] = $Status
    $exception.Data['Retry'] = [bool] $Retry
    $exception.Data['RetryAfter'] = $RetryAfter
    [Management.Automation.ErrorRecord]::new($exception, "Sealwright.$Id", $Category, $Target)
}

function ConvertTo-AnswerError {
    # The error that an HTTP answer stands for.
    param([int] $Status, [string] $Text, [string] $What, [double] $RetryAfter = -1, [string] $Location = '')
    $message = "The server answered $Status to $What."
    $advice = ''
    $problem = ConvertFrom-JsonText $Text
    if ($problem -and $problem.PSObject.Properties['detail'] -and $problem.detail) {
        $message = "${What}: $($problem.detail)"
        if ($problem.PSObject.Properties['advice']) {
            $advice = [string] $problem.advice
        }
    }
    $id, $category, $own = switch ($Status) {
        400 { 'InvalidRequest', 'InvalidArgument', '' }
        401 { 'Unauthenticated', 'AuthenticationError', 'Check -ApiToken or SEALWRIGHT_TOKEN.' }
        403 { 'Forbidden', 'PermissionDenied', 'Have the user of the token made a submitter of the signing policy.' }
        404 { 'NotFound', 'ObjectNotFound', 'Check -OrganizationId, the slugs and ids, and that -ApiUrl is a Sealwright server.' }
        409 { 'Conflict', 'ResourceExists', '' }
        413 { 'TooLarge', 'LimitsExceeded', '' }
        422 { 'Refused', 'InvalidData', '' }
        429 { 'TooManyRequests', 'ResourceBusy', 'Try again later.' }
        { $_ -ge 300 -and $_ -lt 400 } { 'Redirected', 'ConnectionError', "Use the final address as -ApiUrl$(Get-RedirectHost $Location)." }
        { $_ -in 502, 503, 504 } { 'Unavailable', 'ResourceUnavailable', 'Try again later, or raise -ServiceUnavailableTimeoutInSeconds.' }
        default { 'UnexpectedAnswer', 'InvalidResult', 'If it stays, ask the operator of the server.' }
    }
    if (-not $advice) {
        $advice = $own
    }
    New-SealwrightError -Id $id -Category $category -Message $message -Advice $advice -Status $Status `
        -Retry:($Status -in 429, 502, 503, 504) -RetryAfter $RetryAfter
}

function Get-RedirectHost {
    # Where to, without path and query, which may hold secrets.
    param([string] $Location)
    $uri = $null
    if ([Uri]::TryCreate($Location, [UriKind]::Absolute, [ref] $uri)) {
        " ($($uri.GetLeftPart([UriPartial]::Authority)))"
    }
}

function ConvertTo-ConnectionError {
    # The error that a failed transfer stands for. What no repetition mends is not marked to be tried again.
    param([Exception] $Exception, [string] $What, [Uri] $Root)
    $inner = $Exception.GetBaseException()
    $server = $Root.GetLeftPart([UriPartial]::Authority)
    $message = "${What}: the connection to $server failed: $($inner.Message.TrimEnd('.'))."
    for ($one = $Exception; $one; $one = $one.InnerException) {
        $web = [string] $(if ($one -is [Net.WebException]) { $one.Status })
        if ($one -is [Security.Authentication.AuthenticationException] -or $web -in 'TrustFailure', 'SecureChannelFailure') {
            return New-SealwrightError -Id 'TlsFailed' -Category SecurityError -Message $message -Cause $Exception `
                -Advice 'Have this machine trust the root of the certificate of the server, and check its host name.'
        }
        $socket = [string] $(if ($one -is [Net.Sockets.SocketException]) { $one.SocketErrorCode })
        if ($socket -eq 'HostNotFound' -or $web -eq 'NameResolutionFailure') {
            return New-SealwrightError -Id 'HostNotFound' -Category ConnectionError -Message $message -Cause $Exception `
                -Advice 'Check the host name in -ApiUrl.'
        }
    }
    New-SealwrightError -Id 'ConnectionFailed' -Category ConnectionError -Message $message -Cause $Exception -Retry `
        -Advice 'Check -ApiUrl and that the server runs.'
}

function ConvertFrom-JsonText {
    # The object in the text; nothing where there is none.
    param([string] $Text)
    if ($Text -and $Text.TrimStart().StartsWith('{')) {
        try {
            ConvertFrom-Json $Text
        }
        catch {
            Write-Debug 'The answer is not JSON.'
        }
    }
}
