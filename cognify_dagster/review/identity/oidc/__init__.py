"""Single sign-on by OpenID Connect: signing in, roles narrowed by groups, and signatures of strength S2."""
