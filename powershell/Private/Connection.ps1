# Where the server is, and in whose name it is asked.

function New-Connection {
    # Dispose of Client when done.
    param(
        [string] $ApiUrl,
        [string] $ApiToken,
        [string] $OrganizationId,
        [Security.Cryptography.X509Certificates.X509Certificate2] $ClientCertificate,
        [int] $ServiceUnavailableTimeoutInSeconds,
        [int] $UploadAndDownloadRequestTimeoutInSeconds = 300
    )
    $root = Get-ApiRoot $ApiUrl
    $token = Get-Token $ApiToken
    $client = [Net.Http.HttpClient]::new((New-HttpHandler $ClientCertificate), $true)
    # each call has its own time limit, which may be longer than that of the client
    $client.Timeout = [Threading.Timeout]::InfiniteTimeSpan
    $client.DefaultRequestHeaders.Authorization = [Net.Http.Headers.AuthenticationHeaderValue]::new('Bearer', $token)
    $null = $client.DefaultRequestHeaders.TryAddWithoutValidation('User-Agent', 'Sealwright-PowerShell')
    $null = $client.DefaultRequestHeaders.TryAddWithoutValidation('Accept', 'application/json, */*')
    @{
        Client          = $client
        Root            = $root
        Requests        = "API/v1/$([Uri]::EscapeDataString($OrganizationId))/SigningRequests"
        Patience        = $ServiceUnavailableTimeoutInSeconds
        TransferSeconds = $UploadAndDownloadRequestTimeoutInSeconds
    }
}

function Get-ApiRoot {
    # https://HOST/, whichever of HOST, HOST/API and HOST/API/v1 was given.
    param([string] $ApiUrl)
    if (-not $ApiUrl) {
        throw New-SealwrightError -Id 'NoApiUrl' -Category InvalidArgument -Message 'No server is named.' `
            -Advice 'Give -ApiUrl https://HOST, or set SEALWRIGHT_URL.'
    }
    $uri = $null
    $valid = [Uri]::TryCreate(($ApiUrl.Trim() -replace '(?i)(/api(/v1)?)?/*$', '') + '/', [UriKind]::Absolute, [ref] $uri)
    if (-not $valid -or $uri.Scheme -notin 'http', 'https' -or $uri.UserInfo -or $uri.Query -or $uri.Fragment) {
        throw New-SealwrightError -Id 'ApiUrlInvalid' -Category InvalidArgument -Message 'The -ApiUrl is not the address of a server.' `
            -Advice 'Use https://HOST, without user name and query.'
    }
    if ($uri.Scheme -eq 'http' -and -not $uri.IsLoopback) {
        Write-Warning "The token and the artifacts travel unencrypted to $($uri.Host). Use https."
    }
    $uri
}

function Get-Token {
    # The token, checked here because the messages of HttpClient quote a malformed one.
    param([string] $ApiToken)
    $token = $ApiToken
    if (-not $token) {
        $token = $env:SEALWRIGHT_TOKEN
    }
    if (-not $token) {
        throw New-SealwrightError -Id 'NoApiToken' -Category AuthenticationError -Message 'No token is given.' `
            -Advice 'Give -ApiToken, or set SEALWRIGHT_TOKEN.'
    }
    $token = $token.Trim()
    if ($token -notmatch '\A[\x21-\x7e]{1,16384}\z') {
        throw New-SealwrightError -Id 'ApiTokenInvalid' -Category AuthenticationError `
            -Message 'The token holds characters that no token has.' -Advice 'Check -ApiToken or SEALWRIGHT_TOKEN.'
    }
    $token
}

function New-HttpHandler {
    param([Security.Cryptography.X509Certificates.X509Certificate2] $ClientCertificate)
    $handler = [Net.Http.HttpClientHandler]::new()
    if ($ClientCertificate -and -not $handler.PSObject.Properties['ClientCertificates']) {
        # .NET Framework before 4.7.1
        Add-Type -AssemblyName System.Net.Http.WebRequest
        $handler = New-Object System.Net.Http.WebRequestHandler
    }
    # a redirect could carry the token to another host
    $handler.AllowAutoRedirect = $false
    $handler.UseCookies = $false
    if ($ClientCertificate) {
        $handler.ClientCertificateOptions = [Net.Http.ClientCertificateOption]::Manual
        $null = $handler.ClientCertificates.Add($ClientCertificate)
    }
    $handler
}
