# One call: its attempts, their time limits, their progress. Nothing here blocks for long, so that Ctrl-C works.
#
# A call is a hashtable: What (words for messages), Method, Path (below the root of the server), and where needed Parts
# (of a form), Json, Key (of idempotency), Seconds (of one attempt), File (a stream that receives the body), Name (of the
# file in progress records), Patience.

$script:CallSeconds = 100
$script:LongestAnswer = 16MB
$script:TickMilliseconds = 100
$script:ProgressId = 5081

function Invoke-Call {
    # The answer: Json, Location, Headers. Tried again while the server is away.
    param([Parameter(Mandatory)] [hashtable] $Connection, [Parameter(Mandatory)] [hashtable] $Call)
    $patience = $Connection.Patience
    if ($Call.ContainsKey('Patience')) {
        $patience = $Call['Patience']
    }
    $pause = 0.5
    $away = $null
    while ($true) {
        try {
            return Invoke-Attempt $Connection $Call
        }
        catch {
            $failure = $_
        }
        if (-not $failure.Exception.Data['Retry']) {
            throw $failure
        }
        if (-not $away) {
            $away = [Diagnostics.Stopwatch]::StartNew()
        }
        $wait = $pause
        if ($failure.Exception.Data['RetryAfter'] -ge 0) {
            $wait = [Math]::Max(0.1, $failure.Exception.Data['RetryAfter'])
        }
        if ($away.Elapsed.TotalSeconds + $wait -gt $patience) {
            throw $failure
        }
        Write-Warning "$($failure.Exception.Message) Trying again in $([Math]::Ceiling($wait)) s."
        Start-Sleep -Milliseconds ([int] ($wait * 1000))
        $pause = [Math]::Min($pause * 2, 30)
    }
}

function Invoke-Attempt {
    param([hashtable] $Connection, [hashtable] $Call)
    $cancellation = [Threading.CancellationTokenSource]::new()
    $attempt = @{
        Call        = $Call
        Connection  = $Connection
        Clock       = [Diagnostics.Stopwatch]::StartNew()
        Token       = $cancellation.Token
        Upload      = $null
        UploadBytes = 0
        Shown       = $null
    }
    $request = $null
    $response = $null
    try {
        $request = New-HttpRequest $Connection $Call $attempt
        $sent = $Connection.Client.SendAsync($request, [Net.Http.HttpCompletionOption]::ResponseHeadersRead, $cancellation.Token)
        $response = Wait-Transfer $sent $attempt
        Write-Debug "$($Call.Method) $($Call.Path): $([int] $response.StatusCode)"
        if ($Call['File'] -and $response.IsSuccessStatusCode) {
            Save-Body $response $attempt
            return @{ Json = $null; Location = ''; Headers = $response.Headers }
        }
        $text = Read-Text $response $attempt
        $location = [string] $response.Headers.Location
        if (-not $response.IsSuccessStatusCode) {
            throw ConvertTo-AnswerError -Status ([int] $response.StatusCode) -Text $text -What $Call.What `
                -RetryAfter (Get-RetryAfter $response) -Location $location
        }
        @{ Json = ConvertFrom-JsonText $text; Location = $location; Headers = $response.Headers }
    }
    finally {
        # also where Ctrl-C ends it: what is under way is broken off, and files are closed
        $cancellation.Cancel()
        foreach ($one in $response, $request, $attempt.Upload, $cancellation) {
            if ($one) {
                $one.Dispose()
            }
        }
        if ($attempt.Shown) {
            Write-Progress -Id $script:ProgressId -Activity $Call.What -Completed
        }
    }
}

function New-HttpRequest {
    param([hashtable] $Connection, [hashtable] $Call, [hashtable] $Attempt)
    $request = [Net.Http.HttpRequestMessage]::new(
        [Net.Http.HttpMethod]::new($Call.Method), [Uri]::new($Connection.Root, $Call.Path))
    if ($Call['Key']) {
        $null = $request.Headers.TryAddWithoutValidation('Idempotency-Key', $Call['Key'])
    }
    if ($Call['Parts']) {
        # lets the server refuse before it is sent what it would refuse after
        $request.Headers.ExpectContinue = $true
        Add-Form $request $Call['Parts'] $Attempt
    }
    elseif ($Call['Json']) {
        $request.Content = [Net.Http.StringContent]::new($Call['Json'], [Text.Encoding]::UTF8, 'application/json')
    }
    if ($Call['File'] -and $Call['File'].Length -gt 0) {
        $request.Headers.Range = [Net.Http.Headers.RangeHeaderValue]::new($Call['File'].Length, $null)
        if ($Call['Tag']) {
            $null = $request.Headers.TryAddWithoutValidation('If-Range', $Call['Tag'])
        }
    }
    $request
}

function Wait-Transfer {
    # The result of the task, with progress, within the time limit of the attempt.
    param([Threading.Tasks.Task] $Task, [hashtable] $Attempt)
    $call = $Attempt.Call
    $seconds = $script:CallSeconds
    if ($call['Seconds']) {
        $seconds = $call['Seconds']
    }
    $tasks = [Threading.Tasks.Task[]] @($Task)
    do {
        $ended = [Threading.Tasks.Task]::WaitAny($tasks, $script:TickMilliseconds) -eq 0
        if ($Attempt.Upload) {
            Show-Transfer $Attempt (Get-Position $Attempt.Upload) $Attempt.UploadBytes
        }
        if (-not $ended -and $Attempt.Clock.Elapsed.TotalSeconds -gt $seconds) {
            $option = 'the limit of one call'
            if ($call['Seconds']) {
                $option = '-UploadAndDownloadRequestTimeoutInSeconds'
            }
            # a status may be asked for again; a transfer that took too long would take as long again
            throw New-SealwrightError -Id 'RequestTimeout' -Category OperationTimeout -Retry:(-not $call['Seconds']) `
                -Message "$($call.What) took longer than $seconds s ($option)." -Advice 'Raise the limit, or check the network.'
        }
    } until ($ended)
    if ($Task.IsFaulted) {
        throw ConvertTo-ConnectionError -Exception $Task.Exception -What $call.What -Root $Attempt.Connection.Root
    }
    if ($Task.IsCanceled) {
        throw New-SealwrightError -Id 'ConnectionFailed' -Category ConnectionError -Retry `
            -Message "$($call.What): the connection was given up." -Advice 'Check the network.'
    }
    if ($Task.PSObject.Properties['Result']) {
        # not enumerated: some results are collections
        , $Task.Result
    }
}

function Get-Position {
    # How far a stream is that another thread reads, and closes.
    param([IO.FileStream] $Stream)
    try {
        $Stream.Position
    }
    catch {
        -1
    }
}

function Show-Transfer {
    # A progress record, at most five times a second.
    param([hashtable] $Attempt, [long] $Moved, [long] $Total)
    $shown = $Attempt.Shown
    if ($Moved -lt 0 -or ($shown -and $shown.ElapsedMilliseconds -lt 200 -and $Moved -lt $Total)) {
        return
    }
    $percent = -1
    $status = '{0:N1} MB' -f ($Moved / 1MB)
    if ($Total -gt 0) {
        $percent = [int] [Math]::Min(100, [Math]::Floor(100 * $Moved / $Total))
        $status = '{0:N1} of {1:N1} MB' -f ($Moved / 1MB), ($Total / 1MB)
    }
    Write-Progress -Id $script:ProgressId -Activity $Attempt.Call.What -Status $status -PercentComplete $percent
    $Attempt.Shown = [Diagnostics.Stopwatch]::StartNew()
}

function Read-Text {
    # The body, of a bounded length.
    param([Net.Http.HttpResponseMessage] $Response, [hashtable] $Attempt)
    $null = Wait-Transfer $Response.Content.LoadIntoBufferAsync($script:LongestAnswer) $Attempt
    Wait-Transfer $Response.Content.ReadAsStringAsync() $Attempt
}

function Get-RetryAfter {
    # Seconds that the server asks to wait; -1 where it does not.
    param([Net.Http.HttpResponseMessage] $Response)
    $header = $Response.Headers.RetryAfter
    if ($header -and $header.Delta) {
        return $header.Delta.TotalSeconds
    }
    if ($header -and $header.Date) {
        return [Math]::Max(0, ($header.Date - [DateTimeOffset]::UtcNow).TotalSeconds)
    }
    -1
}
