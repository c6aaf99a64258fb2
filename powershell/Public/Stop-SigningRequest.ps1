function Stop-SigningRequest {
    <#
    .SYNOPSIS
    Cancels a signing request.

    .DESCRIPTION
    Ends a signing request that is not final yet, for good. One that is canceled already stays so; any other final request
    is an error.

    .PARAMETER SigningRequestId
    The id of the signing request.

    .PARAMETER Reason
    Why, for those who look at the request.

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
    Stop-SigningRequest -ApiUrl https://signing.example.com -SigningRequestId $id -Reason 'Wrong build.'

    Cancels a request that waits for its approval.

    .LINK
    about_Sealwright
    #>
    [CmdletBinding(SupportsShouldProcess = $true)]
    [OutputType('Sealwright.SigningRequest')]
    param(
        [Parameter(Mandatory, ValueFromPipeline, ValueFromPipelineByPropertyName)] [ValidateNotNullOrEmpty()]
        [string] $SigningRequestId,
        [string] $Reason = '',

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
            if ($PSCmdlet.ShouldProcess($SigningRequestId, 'Cancel the signing request')) {
                ConvertTo-SigningRequest (Stop-Request $connection $SigningRequestId $Reason)
            }
        }
        finally {
            $connection.Client.Dispose()
        }
    }
}
