//! The query protocol of AWS: form parameters in, XML out. Also authenticates the caller.

use crate::account::Account;
use crate::http::{Request, Response};
use crate::random;
use crate::sigv4::{self, Expected};
use crate::state::{Call, State};

/// A service with the query protocol.
pub(crate) struct QueryService {
    /// The name in the scope of a signature.
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    pub(crate) namespace: &'static str,
    /// The region required in signatures; `None`: the simulator's.
    pub(crate) region: Option<&'static str>,
}

impl QueryService {
    /// Whether a request is for this service.
    pub(crate) fn is_asked(&self, request: &Request) -> bool {
        request.path == "/"
            && request.method == "POST"
            && request.form_parameter("Version").as_deref() == Some(self.version)
    }

    /// The ARN of the caller, if the signature is valid and the caller may perform the action.
    pub(crate) fn authorize(
        &self,
        state: &State,
        request: &Request,
        call: &Call,
        permission: &str,
        resource: &str,
    ) -> Result<String, Box<Response>> {
        let region = self.region.unwrap_or(&state.options.region);
        let caller = authorize(state, request, call, &Permission { service: self.name, region, permission, resource })
            .map_err(|(status, code, message)| Box::new(self.error(status, &code, &message)))?;
        Ok(caller)
    }

    pub(crate) fn result(&self, action: &str, content: &str) -> Response {
        xml(
            200,
            format!(
                "<{action}Response xmlns=\"{}\">\n<{action}Result>{content}</{action}Result>\n\
                 <ResponseMetadata><RequestId>{}</RequestId></ResponseMetadata>\n</{action}Response>\n",
                self.namespace,
                random::request_id()
            ),
        )
    }

    pub(crate) fn error(&self, status: u16, code: &str, message: &str) -> Response {
        let kind = if status < 500 { "Sender" } else { "Receiver" };
        xml(
            status,
            format!(
                "<ErrorResponse xmlns=\"{}\">\n<Error><Type>{kind}</Type><Code>{}</Code>\
                 <Message>{}</Message></Error>\n<RequestId>{}</RequestId>\n</ErrorResponse>\n",
                self.namespace,
                escape(code),
                escape(message),
                random::request_id()
            ),
        )
    }
}

/// The permission that a caller needs.
pub(crate) struct Permission<'a> {
    pub(crate) service: &'a str,
    pub(crate) region: &'a str,
    /// `rds:DescribeDBInstances`
    pub(crate) permission: &'a str,
    pub(crate) resource: &'a str,
}

/// The ARN of the caller, or status, code and message of the error.
pub(crate) fn authorize(
    state: &State,
    request: &Request,
    call: &Call,
    needed: &Permission<'_>,
) -> Result<String, (u16, String, String)> {
    let expected = Expected { service: needed.service, region: needed.region, now: call.now };
    let caller = sigv4::verify(request, &expected, |id| state.keys.find(id))
        .map_err(|refusal| (refusal.status, refusal.code.to_owned(), refusal.message))?
        .principal;
    if is_allowed(&state.settings().account, &caller, needed) {
        return Ok(caller);
    }
    let (permission, resource) = (needed.permission, needed.resource);
    Err((
        403,
        "AccessDenied".to_owned(),
        format!(
            "User: {caller} is not authorized to perform: {permission} on resource: {resource} because no \
             identity-based policy allows the {permission} action"
        ),
    ))
}

fn is_allowed(account: &Account, caller: &str, needed: &Permission<'_>) -> bool {
    account
        .principal_of(caller)
        .is_some_and(|principal| account.decide(principal, needed.permission, needed.resource).name == "allowed")
}

/// `<Name>value</Name>`
pub(crate) fn element(name: &str, value: &str) -> String {
    format!("<{name}>{}</{name}>", escape(value))
}

fn xml(status: u16, document: String) -> Response {
    Response::new(status, "text/xml", document)
}

pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
