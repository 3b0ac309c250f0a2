"""Private parts of other libraries, one module a library, each with the versions that its tests have seen.

No other room touches a name of another library that is not public. A new version that moves one fails a test in
`tests/compat` that names it.
"""
