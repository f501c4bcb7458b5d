//! Routes: the service and the operation of a request. Faults are injected for routes.

use serde::{Deserialize, Serialize};

/// The operation of a request; also the target of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Route {
    /// Every request except those to the control API. Never the route of a request.
    Any,
    /// Every request to the instance metadata service. As the route of a request: a metadata path not listed here.
    Imds,
    /// `PUT /latest/api/token`
    ImdsToken,
    /// `GET /latest/meta-data/iam/security-credentials/`
    ImdsRoleList,
    /// `GET /latest/meta-data/iam/security-credentials/ROLE`
    ImdsCredentials,
    /// `GET /latest/meta-data/iam/info`
    ImdsInfo,
    /// `GET /latest/meta-data/placement/region`
    ImdsRegion,
    /// `GET /latest/dynamic/instance-identity/document`
    ImdsIdentityDocument,
    /// The container credentials endpoint: `/v2/credentials/…`, `/v1/credentials`, `/get-credentials`.
    Container,
    /// Every request to STS. As the route of a request: an action not listed here.
    Sts,
    /// STS, `Action=AssumeRole`
    StsAssumeRole,
    /// STS, `Action=AssumeRoleWithWebIdentity`
    StsWebIdentity,
    /// STS, `Action=GetCallerIdentity`
    StsCallerIdentity,
    /// `GET /federation/credentials` of the SSO portal
    SsoRoleCredentials,
    /// `POST /token` of SSO OIDC
    OidcCreateToken,
    /// `POST /v1/token` of the sign-in service
    SignInToken,
    /// Every request to Amazon RDS
    Rds,
    /// Every request to IAM
    Iam,
    /// Every request to CloudWatch
    CloudWatch,
    /// Every request to CloudWatch Logs
    Logs,
    /// The control API, `/simulator/…`. No fault applies to it.
    Control,
    /// A path that belongs to no service.
    Other,
}

/// The service of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Service {
    /// The instance metadata service, version 2.
    Imds,
    /// The container credentials endpoint of ECS and EKS Pod Identity.
    Container,
    /// The Security Token Service.
    Sts,
    /// The SSO portal.
    Sso,
    /// SSO OIDC.
    SsoOidc,
    /// The sign-in service behind `aws login`.
    SignIn,
    /// Amazon RDS.
    Rds,
    /// Identity and Access Management.
    Iam,
    /// CloudWatch.
    CloudWatch,
    /// CloudWatch Logs.
    Logs,
    /// The simulator itself.
    Control,
    /// None of them.
    Unknown,
}

impl Route {
    /// The service this route belongs to.
    pub fn service(self) -> Service {
        match self {
            Self::Imds
            | Self::ImdsToken
            | Self::ImdsRoleList
            | Self::ImdsCredentials
            | Self::ImdsInfo
            | Self::ImdsRegion
            | Self::ImdsIdentityDocument => Service::Imds,
            Self::Container => Service::Container,
            Self::Sts | Self::StsAssumeRole | Self::StsWebIdentity | Self::StsCallerIdentity => Service::Sts,
            Self::SsoRoleCredentials => Service::Sso,
            Self::OidcCreateToken => Service::SsoOidc,
            Self::SignInToken => Service::SignIn,
            Self::Rds => Service::Rds,
            Self::Iam => Service::Iam,
            Self::CloudWatch => Service::CloudWatch,
            Self::Logs => Service::Logs,
            Self::Control => Service::Control,
            Self::Any | Self::Other => Service::Unknown,
        }
    }

    /// Whether a fault for `self` applies to a request of route `request`.
    pub(crate) fn covers(self, request: Self) -> bool {
        match self {
            Self::Any => request != Self::Control,
            Self::Imds | Self::Sts => request.service() == self.service(),
            Self::Control => false,
            _ => self == request,
        }
    }
}
