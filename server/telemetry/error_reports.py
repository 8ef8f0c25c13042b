"""Error reports to Sentry, only where the operator named a DSN. The SDK is imported then and not before."""


def start(dsn: str | None, release: str) -> None:
    """Reports carry no bodies, no cookies and no local variables: any of them may hold what somebody wrote."""
    if not dsn:
        return
    import sentry_sdk

    sentry_sdk.init(
        dsn=dsn, release=release, send_default_pii=False, include_local_variables=False, max_request_body_size="never"
    )
