/** Every statement of the SQL stores. Parameters are named; the names are those of `store.ts`. */

const AUTHENTICATOR = 'id, name, sealed_secret, algorithm, digits, period_seconds, created_at'

/** The failures of the periods that still count, were one more attempt made now; see `turn` in memory.ts. */
const COUNTED_BEFORE = `CASE WHEN :period > period + 1 THEN 0 WHEN :period = period + 1 THEN in_period ELSE in_previous_period END`
const COUNTED_NOW = `CASE WHEN :period > period THEN 0 ELSE in_period END`

/** The end of the delay that `n` consecutive failures set. The shift stops at 20, where every delay is at its most. */
const blockedUntil = (n: string) => `CASE WHEN ${n} < :beforeDelay THEN 0 ELSE
  :now + min(:maxDelaySeconds, :firstDelaySeconds << min(${n} - :beforeDelay, 20)) END`

export const statements = {
  getUser: 'SELECT generation, changed_at, confirmed_at FROM totp_user WHERE user_id = :userId',

  raiseGeneration: `
    INSERT INTO totp_user (user_id, generation, changed_at) VALUES (:userId, 1, :now)
    ON CONFLICT (user_id) DO UPDATE SET generation = generation + 1, changed_at = :now
    RETURNING generation`,

  switchOn: 'UPDATE totp_user SET confirmed_at = coalesce(confirmed_at, :now) WHERE user_id = :userId',
  switchOff: 'UPDATE totp_user SET confirmed_at = NULL WHERE user_id = :userId',

  getLive: `SELECT ${AUTHENTICATOR}, last_used_at FROM totp_authenticator WHERE user_id = :userId`,
  getPending: `SELECT ${AUTHENTICATOR} FROM totp_pending_authenticator WHERE user_id = :userId AND expires_at > :now`,

  putPending: `
    INSERT INTO totp_pending_authenticator (user_id, ${AUTHENTICATOR}, expires_at)
    VALUES (:userId, :id, :name, :sealedSecret, :algorithm, :digits, :periodSeconds, :createdAt, :expiresAt)
    ON CONFLICT (user_id) DO UPDATE SET id = :id, name = :name, sealed_secret = :sealedSecret, algorithm = :algorithm,
      digits = :digits, period_seconds = :periodSeconds, created_at = :createdAt, expires_at = :expiresAt`,

  copyPendingToLive: `
    INSERT INTO totp_authenticator (user_id, ${AUTHENTICATOR}, last_step, last_used_at)
    SELECT user_id, ${AUTHENTICATOR}, :step, :now FROM totp_pending_authenticator
    WHERE user_id = :userId AND id = :authenticatorId AND expires_at > :now`,
  deleteOtherLive: 'DELETE FROM totp_authenticator WHERE user_id = :userId AND id <> :authenticatorId',
  deleteLive: 'DELETE FROM totp_authenticator WHERE user_id = :userId',
  deletePending: 'DELETE FROM totp_pending_authenticator WHERE user_id = :userId',

  /** RFC 6238 §5.2: look and write in one statement, so that of two racing requests one finds the step spent. */
  spendStep: `
    UPDATE totp_authenticator SET last_step = :step, last_used_at = :now
    WHERE id = :authenticatorId AND user_id = :userId AND last_step < :step`,

  spendBackupCode: `
    UPDATE totp_backup_code SET used_at = :now WHERE user_id = :userId AND digest = :digest AND used_at IS NULL`,
  countBackupCodes: 'SELECT count(*) AS remaining FROM totp_backup_code WHERE user_id = :userId AND used_at IS NULL',
  listBackupCodes: 'SELECT sealed_code, used_at FROM totp_backup_code WHERE user_id = :userId ORDER BY position',
  deleteBackupCodes: 'DELETE FROM totp_backup_code WHERE user_id = :userId',
  insertBackupCode: `
    INSERT INTO totp_backup_code (user_id, digest, position, sealed_code)
    VALUES (:userId, :digest, :position, :sealedCode)`,

  /** Counts an attempt as failed before it is judged; returns a row when it may be judged, none when it may not. */
  reserveAttempt: `
    INSERT INTO totp_failure (user_id, method, consecutive, blocked_until, period, in_period, in_previous_period)
    VALUES (:userId, :method, 1, ${blockedUntil('1')}, :period, 1, 0)
    ON CONFLICT (user_id, method) DO UPDATE SET
      consecutive = consecutive + 1,
      blocked_until = ${blockedUntil('consecutive + 1')},
      in_previous_period = ${COUNTED_BEFORE},
      in_period = ${COUNTED_NOW} + 1,
      period = max(period, :period)
    WHERE consecutive < :hardCap AND blocked_until <= :now AND (${COUNTED_NOW}) + (${COUNTED_BEFORE}) < :total
    RETURNING consecutive`,

  getFailures: `
    SELECT consecutive, blocked_until, max(period, :period) AS period,
      ${COUNTED_NOW} AS in_period, ${COUNTED_BEFORE} AS in_previous_period
    FROM totp_failure WHERE user_id = :userId AND method = :method`,

  giveBackAttempt: `
    UPDATE totp_failure SET consecutive = 0, blocked_until = 0, in_period = max(0, in_period - 1)
    WHERE user_id = :userId AND method = :method`,
  clearConsecutiveFailures: 'UPDATE totp_failure SET consecutive = 0, blocked_until = 0 WHERE user_id = :userId',

  burnToken: 'INSERT INTO totp_burnt_token (token_id, expires_at) VALUES (:tokenId, :expiresAt) ON CONFLICT DO NOTHING',
  isBurnt: 'SELECT 1 FROM totp_burnt_token WHERE token_id = :tokenId',
  /** Two for each one burnt: the table stays as small as what is alive, and no request pays for a great clean-up. */
  forgetBurntTokens: `
    DELETE FROM totp_burnt_token WHERE token_id IN
      (SELECT token_id FROM totp_burnt_token WHERE expires_at < :now ORDER BY expires_at LIMIT 2)`,

  openFamily: `
    INSERT INTO totp_refresh_family (id, user_id, token_id, generation, expires_at)
    VALUES (:id, :userId, :tokenId, :generation, :expiresAt)`,
  forgetFamilies: `
    DELETE FROM totp_refresh_family WHERE id IN
      (SELECT id FROM totp_refresh_family WHERE expires_at < :now ORDER BY expires_at LIMIT 2)`,
  rotateFamily: `
    UPDATE totp_refresh_family SET token_id = :newTokenId, expires_at = :expiresAt
    WHERE id = :familyId AND token_id = :tokenId AND expires_at > :now AND generation =
      coalesce((SELECT generation FROM totp_user u WHERE u.user_id = totp_refresh_family.user_id), 0)`,
  isFamilyAlive: `
    SELECT 1 FROM totp_refresh_family f LEFT JOIN totp_user u ON u.user_id = f.user_id
    WHERE f.id = :familyId AND f.expires_at > :now AND f.generation = coalesce(u.generation, 0)
      AND (:tokenId IS NULL OR f.token_id = :tokenId)`,
  endFamily: 'DELETE FROM totp_refresh_family WHERE id = :familyId',
  keepFamily: `
    UPDATE totp_refresh_family SET generation = :generation
    WHERE id = :keepFamilyId AND user_id = :userId AND generation = :generation - 1`,
  endStaleFamilies: 'DELETE FROM totp_refresh_family WHERE user_id = :userId AND generation < :generation',

  keepCanary: 'INSERT INTO totp_canary (id, sealed) VALUES (1, :sealed) ON CONFLICT DO NOTHING',
  getCanary: 'SELECT sealed FROM totp_canary WHERE id = 1',
} as const
