function Wait-SigningRequest {
    <#
    .SYNOPSIS
    Waits until a signing request is final.

    .DESCRIPTION
    Gives the signing request when it is Completed, Failed, Denied or Canceled. Nothing is downloaded, and a request that
    failed is no error: its State says so.

    .PARAMETER SigningRequestId
    The id of the signing request.

    .PARAMETER WaitForCompletionTimeoutInSeconds
    How long to wait. When the time is over that is an error; the request goes on.

    .PARAMETER OrganizationId
    Not needed: the token belongs to one organization. It is accepted so that the same splatted parameters fit every
    command.

    .PARAMETER ApiToken
    The token of the user in whose name it is done. Without it, the environment variable SEALWRIGHT_TOKEN is taken.

    .PARAMETER ClientCertificate
    A certificate, with its key, for a server or proxy that asks its clients for one (mutual TLS).

    .PARAMETER ApiUrl
    The address of the server: https://HOST. Endings /API and /API/v1 are accepted. Without it, the environment variable
    SEALWRIGHT_URL is taken.

    .PARAMETER ServiceUnavailableTimeoutInSeconds
    How long one call is tried again while the server cannot be reached or answers 429, 502, 503 or 504.

    .INPUTS
    Ids, or objects with a property SigningRequestId.

    .OUTPUTS
    Sealwright.SigningRequest.

    .EXAMPLE
    $ids | Wait-SigningRequest -ApiUrl https://signing.example.com | Where-Object State -ne Completed

    Waits for several requests and shows those that were not signed.

    .LINK
    about_Sealwright
    #>
    [CmdletBinding()]
    [OutputType('Sealwright.SigningRequest')]
    param(
        [Parameter(Mandatory, ValueFromPipeline, ValueFromPipelineByPropertyName)] [ValidateNotNullOrEmpty()]
        [string] $SigningRequestId,
        [ValidateRange(1, 2147483)] [int] $WaitForCompletionTimeoutInSeconds = 600,

        [string] $OrganizationId,
        [Alias('CIUserToken')] [string] $ApiToken,
        [Security.Cryptography.X509Certificates.X509Certificate2] $ClientCertificate,
        [string] $ApiUrl = $env:SEALWRIGHT_URL,
        [ValidateRange(0, 2147483)] [int] $ServiceUnavailableTimeoutInSeconds = 600
    )
    process {
        $ErrorActionPreference = 'Stop'
        $connection = New-Connection -ApiUrl $ApiUrl -ApiToken $ApiToken -OrganizationId $OrganizationId `
            -ClientCertificate $ClientCertificate -ServiceUnavailableTimeoutInSeconds $ServiceUnavailableTimeoutInSeconds
        try {
            ConvertTo-SigningRequest (Wait-Request $connection $SigningRequestId $WaitForCompletionTimeoutInSeconds)
        }
        finally {
            $connection.Client.Dispose()
        }
    }
}
