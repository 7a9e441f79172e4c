//! The SMTP machines (RFC 5321), sans-IO.
