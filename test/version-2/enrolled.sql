INSERT INTO totp_user (user_id, generation, changed_at, confirmed_at) VALUES ('ann', 3, 1788480000, 1788470000);

INSERT INTO totp_authenticator
  (id, user_id, name, sealed_secret, algorithm, digits, period_seconds, created_at, last_step, last_used_at, drift_steps)
VALUES ('phone', 'ann', 'Phone', 'sealed secret', 'SHA256', 8, 60, 1788470000, 1000000, 1788480000, 0);

INSERT INTO totp_pending_authenticator
  (user_id, id, name, sealed_secret, algorithm, digits, period_seconds, created_at, expires_at)
VALUES ('bob', 'new', NULL, 'sealed secret', 'SHA1', 6, 30, 1788480000, 1788530000);

INSERT INTO totp_backup_code (user_id, digest, position, sealed_code, used_at) VALUES ('ann', 'a', 0, 'sealed a', 1788480000);

INSERT INTO totp_backup_code (user_id, digest, position, sealed_code, used_at) VALUES ('ann', 'b', 1, 'sealed b', NULL);
