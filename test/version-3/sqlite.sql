CREATE TABLE totp_user (
  user_id TEXT NOT NULL,
  generation INTEGER NOT NULL,
  changed_at INTEGER NOT NULL,
  confirmed_at INTEGER,
  codes_saved_at INTEGER,
  PRIMARY KEY (user_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE totp_authenticator (
  id TEXT NOT NULL,
  user_id TEXT NOT NULL,
  name TEXT,
  sealed_secret TEXT NOT NULL,
  algorithm TEXT NOT NULL,
  digits INTEGER NOT NULL,
  period_seconds INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  last_step INTEGER NOT NULL,
  last_used_at INTEGER,
  drift_steps INTEGER NOT NULL DEFAULT 0,
  far_step INTEGER,
  PRIMARY KEY (id)
) STRICT, WITHOUT ROWID;

CREATE INDEX totp_authenticator_user_id ON totp_authenticator (user_id);

CREATE TABLE totp_pending_authenticator (
  user_id TEXT NOT NULL,
  id TEXT NOT NULL,
  name TEXT,
  sealed_secret TEXT NOT NULL,
  algorithm TEXT NOT NULL,
  digits INTEGER NOT NULL,
  period_seconds INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  far_step INTEGER,
  session_digest TEXT,
  PRIMARY KEY (user_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX totp_pending_authenticator_expires_at ON totp_pending_authenticator (expires_at);

CREATE TABLE totp_backup_code (
  user_id TEXT NOT NULL,
  digest TEXT NOT NULL,
  position INTEGER NOT NULL,
  sealed_code TEXT,
  used_at INTEGER,
  PRIMARY KEY (user_id, digest)
) STRICT, WITHOUT ROWID;

CREATE TABLE totp_failure (
  user_id TEXT NOT NULL,
  method TEXT NOT NULL,
  consecutive INTEGER NOT NULL,
  blocked_until INTEGER NOT NULL,
  period INTEGER NOT NULL,
  in_period INTEGER NOT NULL,
  in_previous_period INTEGER NOT NULL,
  PRIMARY KEY (user_id, method)
) STRICT, WITHOUT ROWID;

CREATE TABLE totp_burnt_token (
  token_id TEXT NOT NULL,
  expires_at INTEGER NOT NULL,
  PRIMARY KEY (token_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX totp_burnt_token_expires_at ON totp_burnt_token (expires_at);

CREATE TABLE totp_refresh_family (
  id TEXT NOT NULL,
  user_id TEXT NOT NULL,
  token_id TEXT NOT NULL,
  generation INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  PRIMARY KEY (id)
) STRICT, WITHOUT ROWID;

CREATE INDEX totp_refresh_family_user_id ON totp_refresh_family (user_id);

CREATE INDEX totp_refresh_family_expires_at ON totp_refresh_family (expires_at);

CREATE TABLE totp_throttle (
  key_digest TEXT NOT NULL,
  calls INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  PRIMARY KEY (key_digest)
) STRICT, WITHOUT ROWID;

CREATE INDEX totp_throttle_expires_at ON totp_throttle (expires_at);

CREATE TABLE totp_canary (
  id INTEGER NOT NULL,
  sealed TEXT NOT NULL,
  PRIMARY KEY (id)
) STRICT, WITHOUT ROWID;

CREATE TABLE totp_trusted_device (
  id TEXT NOT NULL,
  user_id TEXT NOT NULL,
  name TEXT,
  token_digest TEXT NOT NULL,
  generation INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  last_used_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  PRIMARY KEY (id)
) STRICT, WITHOUT ROWID;

CREATE INDEX totp_trusted_device_user_id ON totp_trusted_device (user_id);

CREATE INDEX totp_trusted_device_expires_at ON totp_trusted_device (expires_at);

CREATE TABLE IF NOT EXISTS totp_migration (
  version INTEGER NOT NULL,
  PRIMARY KEY (version)
) STRICT, WITHOUT ROWID;

INSERT INTO totp_migration (version) VALUES (1);

INSERT INTO totp_migration (version) VALUES (2);

INSERT INTO totp_migration (version) VALUES (3);
