# The multipart form of a submission. A part is a hashtable: Name, and either Value or Path.

$script:LongestOriginFile = 64KB

function Add-Form {
    # Give the request the form, with files as streams that are open until the attempt ends.
    param([Net.Http.HttpRequestMessage] $Request, [object[]] $Parts, [hashtable] $Attempt)
    $form = [Net.Http.MultipartFormDataContent]::new()
    $Request.Content = $form
    foreach ($part in $Parts) {
        if ($part['Path']) {
            $stream = Open-Input $part.Path
            $content = [Net.Http.StreamContent]::new($stream, 128KB)
            $content.Headers.ContentType = [Net.Http.Headers.MediaTypeHeaderValue]::new('application/octet-stream')
            if ($part['IsArtifact']) {
                $Attempt.Upload = $stream
                $Attempt.UploadBytes = $stream.Length
            }
        }
        else {
            $content = [Net.Http.StringContent]::new([string] $part.Value, [Text.Encoding]::UTF8)
        }
        $disposition = [Net.Http.Headers.ContentDispositionHeaderValue]::new('form-data')
        $disposition.Name = ConvertTo-Quoted $part.Name
        if ($part['Path']) {
            $disposition.FileName = ConvertTo-Quoted ([IO.Path]::GetFileName($part.Path))
        }
        $content.Headers.ContentDisposition = $disposition
        $form.Add($content)
    }
}

function ConvertTo-Quoted {
    param([string] $Text)
    '"' + ($Text -replace '(["\\])', '\$1') + '"'
}

function Open-Input {
    param([string] $Path)
    try {
        [IO.FileStream]::new($Path, 'Open', 'Read', 'Read', 128KB, $true)
    }
    catch {
        throw New-SealwrightError -Id 'InputUnreadable' -Category ReadError -Target $Path -Cause $_.Exception `
            -Message "The file $Path cannot be read: $($_.Exception.GetBaseException().Message)"
    }
}

function ConvertTo-OriginPart {
    # Parts for an origin: keys nested, dotted or both.
    param([Collections.IDictionary] $Origin, [string] $Prefix = 'Origin', [int] $Depth = 0)
    foreach ($key in $Origin.Keys) {
        $name = "$Prefix.$key"
        $value = $Origin[$key]
        if ($value -is [Collections.IDictionary] -and $Depth -lt 4) {
            ConvertTo-OriginPart $value $name ($Depth + 1)
        }
        elseif ($value -is [string] -or $value -is [ValueType] -or $value -is [Uri]) {
            ConvertTo-OriginValue $name ([string] $value)
        }
        elseif ($null -ne $value) {
            throw New-SealwrightError -Id 'OriginInvalid' -Category InvalidArgument -Target $name `
                -Message "-Origin: $name is neither a text nor a hashtable." -Advice 'See Get-Help about_Sealwright.'
        }
    }
}

function ConvertTo-OriginValue {
    # @path stands for a file: the build settings go as a file, any other value is the text in it. @@ begins a text with @.
    param([string] $Name, [string] $Value)
    if ($Value.StartsWith('@@')) {
        return @{ Name = $Name; Value = $Value.Substring(1) }
    }
    if (-not $Value.StartsWith('@')) {
        return @{ Name = $Name; Value = $Value }
    }
    $path = Resolve-Input $Value.Substring(1) "-Origin: $Name"
    if ((Get-Item -LiteralPath $path -Force).Length -gt $script:LongestOriginFile) {
        throw New-SealwrightError -Id 'OriginInvalid' -Category LimitsExceeded -Target $path `
            -Message "-Origin: the file $path has more than $script:LongestOriginFile bytes."
    }
    if ($Name -eq 'Origin.BuildData.BuildSettingsFile') {
        return @{ Name = $Name; Path = $path }
    }
    @{ Name = $Name; Value = [IO.File]::ReadAllText($path).Trim() }
}

function Resolve-Input {
    # The full path of a file that is there.
    param([string] $Path, [string] $What)
    $full = $ExecutionContext.SessionState.Path.GetUnresolvedProviderPathFromPSPath($Path)
    if (-not [IO.File]::Exists($full)) {
        throw New-SealwrightError -Id 'InputNotFound' -Category ObjectNotFound -Target $full `
            -Message "${What}: there is no file $full." -Advice 'Check the path, and that the build has made the file.'
    }
    $full
}
