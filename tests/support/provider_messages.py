"""Requests exactly as skopeo 1.22.0-dev (ocicrypt 1.3.0) sent them.

Both were sent to the provider ``acme``; the first with ``--encryption-key provider:acme:one
--encryption-key provider:acme --encryption-key provider:other:x --encryption-key jwe:FILE``, the
second with ``--decryption-key provider:acme:abc --decryption-key FILE``. The public and the private
key that came along are vectors of ours, cut short here.
"""

SECRET = (
    b'{"symkey":"NqGEaiPBgj7RrQLcD2+2+d0AWKh0AIcpR2G9Wm7MaFs=","digest":"sha256:78c8f25d2def6acc569'
    b'01d40f0f6ef7415cb80cec4a6ed2372a42ecd579617d1","cipheroptions":{"nonce":"Ub55FQyJsT0Oc6xulAnT'
    b'gg=="}}'
)
_BASE64 = (
    b"eyJzeW1rZXkiOiJOcUdFYWlQQmdqN1JyUUxjRDIrMitkMEFXS2gwQUljcFIyRzlXbTdNYUZzPSIsImRpZ2VzdCI6InNo"
    b"YTI1Njo3OGM4ZjI1ZDJkZWY2YWNjNTY5MDFkNDBmMGY2ZWY3NDE1Y2I4MGNlYzRhNmVkMjM3MmE0MmVjZDU3OTYxN2Qx"
    b"IiwiY2lwaGVyb3B0aW9ucyI6eyJub25jZSI6IlViNTVGUXlKc1QwT2M2eHVsQW5UZ2c9PSJ9fQ=="
)
WRAP = (
    b'{"op":"keywrap","keywrapparams":{"ec":{"Parameters":{"acme":["b25l","RW5hYmxlZA=="],"other":["'
    b'eA=="],"pubkeys":["LS0tLS1CRUdJTiBQVUJMSUMgS0VZLS0tLS0K"]},"DecryptConfig":{"Parameters":{}}},'
    b'"optsdata":"' + _BASE64 + b'"},"keyunwrapparams":{"dc":null,"annotation":null}}'
)
UNWRAP = (
    b'{"op":"keyunwrap","keywrapparams":{"ec":null,"optsdata":null},"keyunwrapparams":{"dc":{"Parame'
    b'ters":{"acme":["YWJj"],"privkeys":["LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0tCg=="],"privkeys-passw'
    b'ords":[null]}},"annotation":"' + _BASE64 + b'"}}'
)
