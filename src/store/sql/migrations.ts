/**
 * The schema, as numbered steps forward. A step that has been released is never changed: the next one changes it.
 * Times are Unix seconds. Secrets and codes are sealed or digested before they come here.
 */
export const migrations: readonly string[] = [
  `
  CREATE TABLE totp_user (
    user_id TEXT PRIMARY KEY,
    generation INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    confirmed_at INTEGER
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE totp_authenticator (
    id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL,
    name TEXT,
    sealed_secret TEXT NOT NULL,
    algorithm TEXT NOT NULL,
    digits INTEGER NOT NULL,
    period_seconds INTEGER NOT NULL,
    last_step INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    last_used_at INTEGER
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX totp_authenticator_user ON totp_authenticator (user_id);

  CREATE TABLE totp_pending_authenticator (
    user_id TEXT PRIMARY KEY,
    id TEXT NOT NULL,
    name TEXT,
    sealed_secret TEXT NOT NULL,
    algorithm TEXT NOT NULL,
    digits INTEGER NOT NULL,
    period_seconds INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;

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
    token_id TEXT PRIMARY KEY,
    expires_at INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX totp_burnt_token_expiry ON totp_burnt_token (expires_at);

  CREATE TABLE totp_refresh_family (
    id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL,
    token_id TEXT NOT NULL,
    generation INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX totp_refresh_family_user ON totp_refresh_family (user_id);
  CREATE INDEX totp_refresh_family_expiry ON totp_refresh_family (expires_at);

  CREATE TABLE totp_canary (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    sealed TEXT NOT NULL
  ) STRICT;
  `,
]
