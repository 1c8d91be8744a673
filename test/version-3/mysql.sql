CREATE TABLE IF NOT EXISTS totp_user (
  user_id VARBINARY(1020) NOT NULL,
  generation BIGINT NOT NULL,
  changed_at BIGINT NOT NULL,
  confirmed_at BIGINT,
  codes_saved_at BIGINT,
  PRIMARY KEY (user_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

CREATE TABLE IF NOT EXISTS totp_authenticator (
  id VARBINARY(1020) NOT NULL,
  user_id VARBINARY(1020) NOT NULL,
  name VARCHAR(255),
  sealed_secret TEXT NOT NULL,
  algorithm VARBINARY(1020) NOT NULL,
  digits BIGINT NOT NULL,
  period_seconds BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  last_step BIGINT NOT NULL,
  last_used_at BIGINT,
  drift_steps BIGINT NOT NULL DEFAULT 0,
  far_step BIGINT,
  PRIMARY KEY (id),
  KEY totp_authenticator_user_id (user_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

CREATE TABLE IF NOT EXISTS totp_pending_authenticator (
  user_id VARBINARY(1020) NOT NULL,
  id VARBINARY(1020) NOT NULL,
  name VARCHAR(255),
  sealed_secret TEXT NOT NULL,
  algorithm VARBINARY(1020) NOT NULL,
  digits BIGINT NOT NULL,
  period_seconds BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  far_step BIGINT,
  session_digest VARBINARY(1020),
  PRIMARY KEY (user_id),
  KEY totp_pending_authenticator_expires_at (expires_at)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

CREATE TABLE IF NOT EXISTS totp_backup_code (
  user_id VARBINARY(1020) NOT NULL,
  digest VARBINARY(1020) NOT NULL,
  position BIGINT NOT NULL,
  sealed_code TEXT,
  used_at BIGINT,
  PRIMARY KEY (user_id, digest)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

CREATE TABLE IF NOT EXISTS totp_failure (
  user_id VARBINARY(1020) NOT NULL,
  method VARBINARY(1020) NOT NULL,
  consecutive BIGINT NOT NULL,
  blocked_until BIGINT NOT NULL,
  period BIGINT NOT NULL,
  in_period BIGINT NOT NULL,
  in_previous_period BIGINT NOT NULL,
  PRIMARY KEY (user_id, method)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

CREATE TABLE IF NOT EXISTS totp_burnt_token (
  token_id VARBINARY(1020) NOT NULL,
  expires_at BIGINT NOT NULL,
  PRIMARY KEY (token_id),
  KEY totp_burnt_token_expires_at (expires_at)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

CREATE TABLE IF NOT EXISTS totp_refresh_family (
  id VARBINARY(1020) NOT NULL,
  user_id VARBINARY(1020) NOT NULL,
  token_id VARBINARY(1020) NOT NULL,
  generation BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  PRIMARY KEY (id),
  KEY totp_refresh_family_user_id (user_id),
  KEY totp_refresh_family_expires_at (expires_at)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

CREATE TABLE IF NOT EXISTS totp_throttle (
  key_digest VARBINARY(1020) NOT NULL,
  calls BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  PRIMARY KEY (key_digest),
  KEY totp_throttle_expires_at (expires_at)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

CREATE TABLE IF NOT EXISTS totp_canary (
  id BIGINT NOT NULL,
  sealed TEXT NOT NULL,
  PRIMARY KEY (id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

CREATE TABLE IF NOT EXISTS totp_trusted_device (
  id VARBINARY(1020) NOT NULL,
  user_id VARBINARY(1020) NOT NULL,
  name VARCHAR(255),
  token_digest VARBINARY(1020) NOT NULL,
  generation BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  last_used_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  PRIMARY KEY (id),
  KEY totp_trusted_device_user_id (user_id),
  KEY totp_trusted_device_expires_at (expires_at)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

CREATE TABLE IF NOT EXISTS totp_migration (
  version BIGINT NOT NULL,
  PRIMARY KEY (version)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

INSERT INTO totp_migration (version) VALUES (1);

INSERT INTO totp_migration (version) VALUES (2);

INSERT INTO totp_migration (version) VALUES (3);
