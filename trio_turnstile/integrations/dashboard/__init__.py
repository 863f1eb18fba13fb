"""A page that shows limiters and runs, and steers them, in a browser.

Serve it with the control API, and use its token; the extra ``dashboard`` installs both::

    from trio_turnstile.integrations import dashboard
    from trio_turnstile.integrations.control import serve_control

    token = secrets.token_urlsafe()
    served = await nursery.start(
        partial(serve_control, turnstile, port=8080, token=token, page=dashboard.make_page)
    )
    print(dashboard.address(served.port, token))

See docs/dashboard.rst.
"""

from ._page import address, make_page

__all__ = ["address", "make_page"]
