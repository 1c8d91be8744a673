CREATE TABLE totp_user (
  user_id text NOT NULL,
  generation bigint NOT NULL,
  changed_at bigint NOT NULL,
  confirmed_at bigint,
  codes_saved_at bigint,
  PRIMARY KEY (user_id)
);

CREATE TABLE totp_authenticator (
  id text NOT NULL,
  user_id text NOT NULL,
  name text,
  sealed_secret text NOT NULL,
  algorithm text NOT NULL,
  digits bigint NOT NULL,
  period_seconds bigint NOT NULL,
  created_at bigint NOT NULL,
  last_step bigint NOT NULL,
  last_used_at bigint,
  drift_steps bigint NOT NULL DEFAULT 0,
  far_step bigint,
  PRIMARY KEY (id)
);

CREATE INDEX totp_authenticator_user_id ON totp_authenticator (user_id);

CREATE TABLE totp_pending_authenticator (
  user_id text NOT NULL,
  id text NOT NULL,
  name text,
  sealed_secret text NOT NULL,
  algorithm text NOT NULL,
  digits bigint NOT NULL,
  period_seconds bigint NOT NULL,
  created_at bigint NOT NULL,
  expires_at bigint NOT NULL,
  far_step bigint,
  session_digest text,
  PRIMARY KEY (user_id)
);

CREATE INDEX totp_pending_authenticator_expires_at ON totp_pending_authenticator (expires_at);

CREATE TABLE totp_backup_code (
  user_id text NOT NULL,
  digest text NOT NULL,
  position bigint NOT NULL,
  sealed_code text,
  used_at bigint,
  PRIMARY KEY (user_id, digest)
);

CREATE TABLE totp_failure (
  user_id text NOT NULL,
  method text NOT NULL,
  consecutive bigint NOT NULL,
  blocked_until bigint NOT NULL,
  period bigint NOT NULL,
  in_period bigint NOT NULL,
  in_previous_period bigint NOT NULL,
  PRIMARY KEY (user_id, method)
);

CREATE TABLE totp_burnt_token (
  token_id text NOT NULL,
  expires_at bigint NOT NULL,
  PRIMARY KEY (token_id)
);

CREATE INDEX totp_burnt_token_expires_at ON totp_burnt_token (expires_at);

CREATE TABLE totp_refresh_family (
  id text NOT NULL,
  user_id text NOT NULL,
  token_id text NOT NULL,
  generation bigint NOT NULL,
  expires_at bigint NOT NULL,
  PRIMARY KEY (id)
);

CREATE INDEX totp_refresh_family_user_id ON totp_refresh_family (user_id);

CREATE INDEX totp_refresh_family_expires_at ON totp_refresh_family (expires_at);

CREATE TABLE totp_throttle (
  key_digest text NOT NULL,
  calls bigint NOT NULL,
  expires_at bigint NOT NULL,
  PRIMARY KEY (key_digest)
);

CREATE INDEX totp_throttle_expires_at ON totp_throttle (expires_at);

CREATE TABLE totp_canary (
  id bigint NOT NULL,
  sealed text NOT NULL,
  PRIMARY KEY (id)
);

CREATE TABLE totp_trusted_device (
  id text NOT NULL,
  user_id text NOT NULL,
  name text,
  token_digest text NOT NULL,
  generation bigint NOT NULL,
  created_at bigint NOT NULL,
  last_used_at bigint NOT NULL,
  expires_at bigint NOT NULL,
  PRIMARY KEY (id)
);

CREATE INDEX totp_trusted_device_user_id ON totp_trusted_device (user_id);

CREATE INDEX totp_trusted_device_expires_at ON totp_trusted_device (expires_at);

CREATE TABLE IF NOT EXISTS totp_migration (
  version bigint NOT NULL,
  PRIMARY KEY (version)
);

INSERT INTO totp_migration (version) VALUES (1);

INSERT INTO totp_migration (version) VALUES (2);

INSERT INTO totp_migration (version) VALUES (3);
