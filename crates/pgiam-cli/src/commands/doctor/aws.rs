//! What AWS services say about the connection.

use super::Context;
use super::report::Report;

/// Compares the clock of this machine with that of an AWS service.
pub(crate) fn clock(_context: &Context<'_>, _report: &mut Report) {}

/// Asks STS whose credentials these are.
pub(crate) fn identity(_context: &Context<'_>, _report: &mut Report) {}

/// Looks for the reason of a failed login.
pub(crate) fn check(_context: &Context<'_>, _report: &mut Report) {}
