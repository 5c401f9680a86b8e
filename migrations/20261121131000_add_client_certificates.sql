-- What a receiver that asks who is calling is shown (mTLS): a chain of certificates in PEM, the SHA-256 of the first one's DER,
-- and its private key, sealed. Attempts carry the endpoint's version, which says what they were sent with: the key isn't history.
ALTER TABLE endpoints
    ADD COLUMN client_certificate        text,
    ADD COLUMN client_certificate_sha256 bytea,
    ADD COLUMN client_key_sealed         bytea,
    ADD CONSTRAINT endpoints_client_certificate_check
        CHECK (num_nulls(client_certificate, client_certificate_sha256, client_key_sealed) IN (0, 3));

ALTER TABLE endpoint_versions ADD COLUMN client_certificate_sha256 bytea;
