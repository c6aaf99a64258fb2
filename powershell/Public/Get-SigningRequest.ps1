function Get-SigningRequest {
    <#
    .SYNOPSIS
    Shows a signing request.

    .DESCRIPTION
    Gives the state of a signing request as it is now, and what it was submitted with. For one that failed, Reason and
    Advice say why and what to do.

    .PARAMETER SigningRequestId
    The id of the signing request.

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
    Get-SigningRequest -ApiUrl https://signing.example.com -SigningRequestId $id | Format-List State, Reason, Advice

    Shows how far a request is.

    .LINK
    about_Sealwright
    #>
    [CmdletBinding()]
    [OutputType('Sealwright.SigningRequest')]
    param(
        [Parameter(Mandatory, ValueFromPipeline, ValueFromPipelineByPropertyName)] [ValidateNotNullOrEmpty()]
        [string] $SigningRequestId,

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
            ConvertTo-SigningRequest (Get-Request $connection $SigningRequestId)
        }
        finally {
            $connection.Client.Dispose()
        }
    }
}
