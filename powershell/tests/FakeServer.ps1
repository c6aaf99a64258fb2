# A server that answers as a test scripts it: one answer after the other, the last one again and again.
#
# An answer is a hashtable: Status ('201 Created'), Headers, Body (text or bytes), Cut (bytes of the body after which the
# connection breaks), Drop (break it before any answer), Seconds (to wait before the answer).

function Start-FakeServer {
    param([hashtable[]] $Answers)
    $listener = [Net.Sockets.TcpListener]::new([Net.IPAddress]::Loopback, 0)
    $listener.Start()
    $state = [hashtable]::Synchronized(@{
            Listener = $listener
            Answers  = $Answers
            Requests = [Collections.ArrayList]::Synchronized([Collections.ArrayList]::new())
            Url      = "http://127.0.0.1:$($listener.LocalEndpoint.Port)"
            Shell    = [PowerShell]::Create()
        })
    $state.Shell.Runspace = [Management.Automation.Runspaces.RunspaceFactory]::CreateRunspace(
        [Management.Automation.Runspaces.InitialSessionState]::CreateDefault2())
    $state.Shell.Runspace.Open()
    $null = $state.Shell.AddScript($script:FakeServerLoop).AddArgument($state)
    $null = $state.Shell.BeginInvoke()
    $state
}

function Stop-FakeServer {
    param([hashtable] $Server)
    $Server.Listener.Stop()
    $Server.Shell.Stop()
    $Server.Shell.Runspace.Dispose()
    $Server.Shell.Dispose()
}

function Use-FakeServer {
    # Run the block with the server as its argument.
    param([hashtable[]] $Answers, [scriptblock] $Body)
    $server = Start-FakeServer $Answers
    try {
        & $Body $server
    }
    finally {
        Stop-FakeServer $server
    }
}

# needs no command, since its runspace has none
$script:FakeServerLoop = {
    param($state)
    $latin1 = [Text.Encoding]::GetEncoding(28591)
    $number = 0
    while ($true) {
        try {
            $client = $state.Listener.AcceptTcpClient()
        }
        catch {
            return
        }
        try {
            $stream = $client.GetStream()
            $head = [Text.StringBuilder]::new()
            while (-not $head.ToString().EndsWith("`r`n`r`n")) {
                $byte = $stream.ReadByte()
                if ($byte -lt 0) {
                    break
                }
                $null = $head.Append([char] $byte)
            }
            $lines = $head.ToString().Trim() -split "`r`n"
            if (-not $lines[0]) {
                continue
            }
            $headers = @{}
            foreach ($line in $lines[1..($lines.Count - 1)]) {
                $headers[($line -split ': ', 2)[0]] = ($line -split ': ', 2)[1]
            }
            $answer = $state.Answers[[Math]::Min($number, $state.Answers.Count - 1)]
            $number++
            $left = [long] $(if ($headers['Content-Length']) { $headers['Content-Length'] } else { 0 })
            if ($headers['Expect'] -eq '100-continue') {
                $go = $latin1.GetBytes("HTTP/1.1 100 Continue`r`n`r`n")
                $stream.Write($go, 0, $go.Length)
            }
            $body = [IO.MemoryStream]::new()
            $buffer = [byte[]]::new(65536)
            while ($left -gt 0) {
                $count = $stream.Read($buffer, 0, [Math]::Min($left, $buffer.Length))
                if ($count -le 0) {
                    break
                }
                $body.Write($buffer, 0, $count)
                $left -= $count
            }
            $null = $state.Requests.Add(@{ Line = $lines[0]; Headers = $headers; Text = $latin1.GetString($body.ToArray()) })
            if ($answer['Seconds']) {
                [Threading.Thread]::Sleep([int] ($answer.Seconds * 1000))
            }
            if ($answer['Drop']) {
                continue
            }
            $bytes = $answer['Body']
            if ($null -eq $bytes) {
                $bytes = ''
            }
            if ($bytes -is [string]) {
                $bytes = [Text.Encoding]::UTF8.GetBytes($bytes)
            }
            $top = "HTTP/1.1 $($answer.Status)`r`nContent-Length: $($bytes.Length)`r`nConnection: close`r`n"
            if ($answer['Headers']) {
                foreach ($name in $answer.Headers.Keys) {
                    $top += "${name}: $($answer.Headers[$name])`r`n"
                }
            }
            $raw = $latin1.GetBytes("$top`r`n")
            $stream.Write($raw, 0, $raw.Length)
            $length = $bytes.Length
            if ($answer['Cut']) {
                $length = $answer.Cut
            }
            $stream.Write($bytes, 0, $length)
            $stream.Flush()
        }
        catch {
            $null = $state.Requests.Add(@{ Line = "fault $_"; Headers = @{}; Text = '' })
        }
        finally {
            $client.Close()
        }
    }
}
