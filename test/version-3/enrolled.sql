INSERT INTO totp_user (user_id, generation, changed_at, confirmed_at, codes_saved_at)
VALUES ('ann', 3, 1788480000, 1788470000, 1788475000);

INSERT INTO totp_authenticator
  (id, user_id, name, sealed_secret, algorithm, digits, period_seconds, created_at, last_step, last_used_at, drift_steps)
VALUES ('phone', 'ann', 'Phone', 'sealed secret', 'SHA256', 8, 60, 1788470000, 1000000, 1788480000, 0);

INSERT INTO totp_pending_authenticator
  (user_id, id, name, sealed_secret, algorithm, digits, period_seconds, created_at, expires_at, session_digest)
VALUES ('bob', 'new', NULL, 'sealed secret', 'SHA1', 6, 30, 1788480000, 1788530000, 'session');

INSERT INTO totp_backup_code (user_id, digest, position, sealed_code, used_at) VALUES ('ann', 'a', 0, 'sealed a', 1788480000);

INSERT INTO totp_backup_code (user_id, digest, position, sealed_code, used_at) VALUES ('ann', 'b', 1, 'sealed b', NULL);

INSERT INTO totp_failure (user_id, method, consecutive, blocked_until, period, in_period, in_previous_period)
VALUES ('ann', 'totp', 4, 0, 690, 4, 2);
