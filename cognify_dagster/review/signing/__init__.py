"""The journey of a signature on the site: what is decided, the exact statement, the signer's own key, the receipt.

Modules: `acts` (acts of one or several people: start, list, sign, submit), `flow` (sign-offs of versions, and finishing a signature of
either sort), `methods` (with what one can sign here: passkeys, and what other modules add), `passkey`, `choices` (what a form
decides), `statements` (how a statement is shown), `shown` (what the site displayed to whom), `sections` (texts that people write).
"""
