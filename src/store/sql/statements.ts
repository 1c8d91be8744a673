import { MAX_CLOCK_SKEW_SECONDS } from '../single-use.ts'
import { compile, type Dialect, type Statement } from './dialect.ts'
import { listColumns } from './migrations.ts'
import type { Tables } from './tables.ts'

/**
 * Every statement of the SQL stores, in one place; where the databases differ, the difference stands beside the
 * sentence. Parameters are named; the names are those of `store.ts`.
 */
export type StatementName = keyof ReturnType<typeof sources> | keyof ReturnType<typeof postgresStatements>
export type Statements = Readonly<Record<StatementName, Statement>>

export function statementsFor(dialect: Dialect, tables: Tables): Statements {
  const own = dialect === 'postgres' ? postgresStatements(tables) : {}
  const compiled = Object.entries({ ...sources(dialect, tables), ...own }).map(([name, source]) => [
    name,
    compile(dialect, `${tables.prefix}${name}`, source),
  ])
  return Object.fromEntries(compiled) as Statements
}

const AUTHENTICATOR = 'id, name, sealed_secret, algorithm, digits, period_seconds, created_at'
const LIVE = `${AUTHENTICATOR}, last_used_at, drift_steps, far_step`
const PENDING = `${AUTHENTICATOR}, far_step, expires_at`

function sources(dialect: Dialect, t: Tables) {
  const greatest = dialect === 'sqlite' ? 'max' : 'greatest'
  /** An insert that does nothing where the key is taken; the number of changed rows tells which. */
  const insertNew = (into: string, values: string) =>
    dialect === 'mysql'
      ? `INSERT IGNORE INTO ${into} ${values}`
      : `INSERT INTO ${into} ${values} ON CONFLICT DO NOTHING`
  /** Locks what was read until the transaction ends. SQLite has locked the whole file by then. */
  const locked = dialect === 'sqlite' ? '' : 'FOR UPDATE'
  const deleteTwoExpired = (table: string, key: string) => twoExpired(dialect, table, key)

  const laterFarStep = 'CASE WHEN far_step > :step THEN far_step ELSE :step END'
  /** One of the users in a JSON list; a number of placeholders that varied would be a new statement each time. */
  const among = {
    sqlite: 'IN (SELECT value FROM json_each(:userIds))',
    postgres: '= ANY (ARRAY(SELECT json_array_elements_text(:userIds::json)))',
    // As bytes, which is what the column holds.
    mysql: `IN (SELECT CAST(listed.id AS BINARY) FROM JSON_TABLE(:userIds, '$[*]'
      COLUMNS (id VARCHAR(255) CHARACTER SET utf8mb4 PATH '$')) AS listed)`,
  }[dialect]

  const { inPeriod, inPrevious, countOne, mayTry } = failureTerms(dialect)

  return {
    ensureUser: insertNew(`${t.user} (user_id, generation, changed_at)`, 'VALUES (:userId, 0, 0)'),
    getUser: `SELECT generation, changed_at, confirmed_at FROM ${t.user} WHERE user_id = :userId`,
    lockUser: `SELECT generation, changed_at, confirmed_at FROM ${t.user} WHERE user_id = :userId ${locked}`,
    raiseGeneration: `
      UPDATE ${t.user} SET generation = generation + 1, changed_at = ${greatest}(changed_at, :now) + 1
      WHERE user_id = :userId`,
    switchOn: `UPDATE ${t.user} SET confirmed_at = coalesce(confirmed_at, :now) WHERE user_id = :userId`,
    switchOff: `UPDATE ${t.user} SET confirmed_at = NULL, codes_saved_at = NULL WHERE user_id = :userId`,
    getWholeUser: `
      SELECT generation, changed_at, confirmed_at, codes_saved_at FROM ${t.user} WHERE user_id = :userId`,
    noteCodesSaved: `
      UPDATE ${t.user} SET codes_saved_at = :now WHERE user_id = :userId AND confirmed_at IS NOT NULL`,
    forgetCodesSaved: `UPDATE ${t.user} SET codes_saved_at = NULL WHERE user_id = :userId`,

    usersIn: `
      SELECT user_id, generation, changed_at, confirmed_at, codes_saved_at FROM ${t.user} WHERE user_id ${among}`,
    liveIn: `SELECT user_id, ${LIVE} FROM ${t.authenticator} WHERE user_id ${among} ORDER BY created_at, id`,
    pendingIn: `SELECT user_id, expires_at FROM ${t.pending} WHERE user_id ${among} AND expires_at > :now`,
    countBackupCodesIn: `
      SELECT user_id, count(*) AS counted FROM ${t.backupCode} WHERE user_id ${among} AND used_at IS NULL
      GROUP BY user_id`,
    countDevicesIn: `
      SELECT d.user_id, count(*) AS counted FROM ${t.trustedDevice} AS d LEFT JOIN ${t.user} AS u ON u.user_id = d.user_id
      WHERE d.user_id ${among} AND d.expires_at > :now AND d.generation = coalesce(u.generation, 0)
      GROUP BY d.user_id`,

    getLive: `SELECT ${LIVE} FROM ${t.authenticator} WHERE user_id = :userId ORDER BY created_at, id`,
    /** Locked, so that a host's transaction sees those of now, not those of its snapshot. */
    lockLiveByUse: `
      SELECT id FROM ${t.authenticator} WHERE user_id = :userId
      ORDER BY coalesce(last_used_at, 0), created_at, id ${locked}`,
    getPending: `SELECT ${PENDING}, expires_at, session_digest FROM ${t.pending} WHERE user_id = :userId AND expires_at > :now`,
    insertPending: `
      INSERT INTO ${t.pending} (user_id, ${AUTHENTICATOR}, expires_at, session_digest)
      VALUES (:userId, :id, :name, :sealedSecret, :algorithm, :digits, :periodSeconds, :createdAt, :expiresAt,
        :sessionDigest)`,
    copyPendingToLive: `
      INSERT INTO ${t.authenticator} (user_id, ${AUTHENTICATOR}, last_step, last_used_at, drift_steps)
      SELECT user_id, ${AUTHENTICATOR}, :step, :now, :driftSteps FROM ${t.pending}
      WHERE user_id = :userId AND id = :authenticatorId AND expires_at > :now`,
    insertLive: `
      INSERT INTO ${t.authenticator} (user_id, ${AUTHENTICATOR}, last_step, last_used_at, drift_steps)
      VALUES (:userId, :id, :name, :sealedSecret, :algorithm, :digits, :periodSeconds, :createdAt, :lastStep, :lastUsedAt,
        0)`,
    renameAuthenticator: `
      UPDATE ${t.authenticator} SET name = :name WHERE user_id = :userId AND id = :authenticatorId`,
    deleteAuthenticator: `DELETE FROM ${t.authenticator} WHERE user_id = :userId AND id = :authenticatorId`,
    deleteLive: `DELETE FROM ${t.authenticator} WHERE user_id = :userId`,
    deletePending: `DELETE FROM ${t.pending} WHERE user_id = :userId`,
    deleteExpiredPending: `DELETE FROM ${t.pending} WHERE expires_at < :now`,

    /** RFC 6238 §5.2: look and write in one statement, so that of two racing requests one finds the step spent. */
    spendStep: `
      UPDATE ${t.authenticator} SET last_step = :step, last_used_at = :now, drift_steps = :driftSteps,
        far_step = CASE WHEN far_step > :step THEN far_step END
      WHERE id = :authenticatorId AND user_id = :userId AND last_step < :step`,
    noteResyncStep: `
      UPDATE ${t.authenticator} SET far_step = ${laterFarStep} WHERE id = :authenticatorId AND user_id = :userId`,
    noteResyncStepOfPending: `
      UPDATE ${t.pending} SET far_step = ${laterFarStep} WHERE user_id = :userId AND id = :authenticatorId`,

    spendBackupCode: `
      UPDATE ${t.backupCode} SET used_at = :now WHERE user_id = :userId AND digest = :digest AND used_at IS NULL`,
    countBackupCodes: `
      SELECT count(*) AS remaining FROM ${t.backupCode} WHERE user_id = :userId AND used_at IS NULL`,
    listBackupCodes: `SELECT sealed_code, used_at FROM ${t.backupCode} WHERE user_id = :userId ORDER BY position`,
    deleteBackupCodes: `DELETE FROM ${t.backupCode} WHERE user_id = :userId`,
    insertBackupCode: `
      INSERT INTO ${t.backupCode} (user_id, digest, position, sealed_code)
      VALUES (:userId, :digest, :position, :sealedCode)`,

    ensureFailures: insertNew(
      `${t.failure} (user_id, method, consecutive, blocked_until, period, in_period, in_previous_period)`,
      'VALUES (:userId, :method, 0, 0, :period, 0, 0)',
    ),
    /** Counts an attempt as failed before it is judged; changes no row when it may not be judged. */
    countAttempt: `
      UPDATE ${t.failure} AS f SET ${countOne} WHERE f.user_id = :userId AND f.method = :method AND ${mayTry}`,
    getFailures: `
      SELECT consecutive, blocked_until, ${greatest}(period, :period) AS period,
        ${inPeriod} AS in_period, ${inPrevious} AS in_previous_period
      FROM ${t.failure} AS f WHERE user_id = :userId AND method = :method`,
    failuresIn: `
      SELECT f.user_id, consecutive, blocked_until, ${greatest}(period, :period) AS period,
        ${inPeriod} AS in_period, ${inPrevious} AS in_previous_period
      FROM ${t.failure} AS f WHERE method = 'totp' AND user_id ${among}`,
    giveBackAttempt: `
      UPDATE ${t.failure} SET consecutive = 0, blocked_until = 0, in_period = ${greatest}(0, in_period - 1)
      WHERE user_id = :userId AND method = :method`,
    /** In this order: MySQL assigns from left to right and sees the new values on the right. */
    returnAttempt: `
      UPDATE ${t.failure} SET blocked_until = CASE WHEN consecutive = :consecutive THEN 0 ELSE blocked_until END,
        consecutive = ${greatest}(0, consecutive - 1), in_period = ${greatest}(0, in_period - 1)
      WHERE user_id = :userId AND method = :method`,
    clearConsecutiveFailures: `
      UPDATE ${t.failure} SET consecutive = 0, blocked_until = 0 WHERE user_id = :userId`,
    forgiveRecoveryPasswords: `
      UPDATE ${t.failure} SET consecutive = 0, blocked_until = 0
      WHERE user_id = :userId AND method = 'recovery_password'`,
    clearFailures: `DELETE FROM ${t.failure} WHERE user_id = :userId`,
    liftLock: `UPDATE ${t.failure} SET consecutive = 0 WHERE user_id = :userId AND consecutive >= :lockAfter`,
    liftLockOfApp: `
      UPDATE ${t.failure} SET consecutive = 0
      WHERE user_id = :userId AND method = 'totp' AND consecutive >= :lockAfter`,

    consumeToken: insertNew(`${t.burntToken} (token_id, expires_at)`, 'VALUES (:tokenId, :expiresAt)'),
    isBurnt: `SELECT 1 AS burnt FROM ${t.burntToken} WHERE token_id = :tokenId`,
    forgetTwoBurntTokens: twoExpired(dialect, t.burntToken, 'token_id', FORGOTTEN),
    deleteExpiredBurntTokens: `DELETE FROM ${t.burntToken} WHERE ${FORGOTTEN}`,

    openFamily: `
      INSERT INTO ${t.refreshFamily} (id, user_id, token_id, generation, expires_at)
      VALUES (:id, :userId, :tokenId, :generation, :expiresAt)`,
    forgetTwoFamilies: deleteTwoExpired(t.refreshFamily, 'id'),
    deleteExpiredFamilies: `DELETE FROM ${t.refreshFamily} WHERE expires_at < :now`,
    rotateFamily: `
      UPDATE ${t.refreshFamily} SET token_id = :newTokenId, expires_at = :expiresAt
      WHERE id = :familyId AND token_id = :tokenId AND expires_at > :now AND generation =
        coalesce((SELECT u.generation FROM ${t.user} AS u WHERE u.user_id = ${t.refreshFamily}.user_id), 0)`,
    raiseFamily: `
      UPDATE ${t.refreshFamily} SET token_id = :newTokenId, expires_at = :expiresAt
      WHERE id = :familyId AND user_id = :userId AND expires_at > :now AND generation = :generation AND generation =
        coalesce((SELECT u.generation FROM ${t.user} AS u WHERE u.user_id = :userId), 0)`,
    getFamily: `
      SELECT f.token_id FROM ${t.refreshFamily} AS f LEFT JOIN ${t.user} AS u ON u.user_id = f.user_id
      WHERE f.id = :familyId AND f.expires_at > :now AND f.generation = coalesce(u.generation, 0)`,
    endFamily: `DELETE FROM ${t.refreshFamily} WHERE id = :familyId`,
    keepFamily: `
      UPDATE ${t.refreshFamily} SET generation = :generation
      WHERE id = :keepFamilyId AND user_id = :userId AND generation = :generation - 1`,
    endStaleFamilies: `DELETE FROM ${t.refreshFamily} WHERE user_id = :userId AND generation < :generation`,

    /** The generation stands in the row: an earlier version that shares the database raises it and knows no devices. */
    keepDevice: `
      INSERT INTO ${t.trustedDevice}
        (id, user_id, name, token_digest, generation, created_at, last_used_at, expires_at)
      VALUES (:id, :userId, :name, :tokenDigest, :generation, :createdAt, :lastUsedAt, :expiresAt)`,
    forgetTwoDevices: deleteTwoExpired(t.trustedDevice, 'id'),
    deleteExpiredDevices: `DELETE FROM ${t.trustedDevice} WHERE expires_at < :now`,
    rotateDevice: `
      UPDATE ${t.trustedDevice} SET token_digest = :newTokenDigest, last_used_at = :now
      WHERE id = :deviceId AND user_id = :userId AND token_digest = :tokenDigest AND expires_at > :now
        AND generation = :generation
        AND generation = coalesce((SELECT u.generation FROM ${t.user} AS u WHERE u.user_id = :userId), 0)`,
    listDevices: `
      SELECT d.id, d.name, d.token_digest, d.created_at, d.last_used_at, d.expires_at
      FROM ${t.trustedDevice} AS d LEFT JOIN ${t.user} AS u ON u.user_id = d.user_id
      WHERE d.user_id = :userId AND d.expires_at > :now AND d.generation = coalesce(u.generation, 0)
      ORDER BY d.created_at DESC, d.id`,
    endDevice: `DELETE FROM ${t.trustedDevice} WHERE id = :deviceId AND user_id = :userId`,
    endDevices: `DELETE FROM ${t.trustedDevice} WHERE user_id = :userId`,

    ensureCalls: insertNew(`${t.throttle} (key_digest, calls, expires_at)`, 'VALUES (:keyDigest, 0, :expiresAt)'),
    /** A window that has ended begins anew, and so does one that a clock set back would keep open too long. */
    countCall: `
      UPDATE ${t.throttle} SET calls = CASE WHEN expires_at <= :now OR expires_at > :expiresAt THEN 1 ELSE calls + 1 END,
        expires_at = CASE WHEN expires_at <= :now OR expires_at > :expiresAt THEN :expiresAt ELSE expires_at END
      WHERE key_digest = :keyDigest`,
    getCalls: `SELECT calls, expires_at FROM ${t.throttle} WHERE key_digest = :keyDigest`,
    forgetTwoCalls: deleteTwoExpired(t.throttle, 'key_digest'),
    deleteExpiredCalls: `DELETE FROM ${t.throttle} WHERE expires_at < :now`,

    keepKeyCheck: insertNew(`${t.canary} (id, sealed)`, 'VALUES (1, :sealed)'),
    getKeyCheck: `
      SELECT sealed, (SELECT max(version) FROM ${t.migration}) AS version FROM ${t.canary} WHERE id = 1`,
    listColumns: listColumns(dialect, t),
  }
}

const EXPIRED = 'expires_at < :now'
/** A burnt mark outlives its token for as long as clocks may differ: where a clock is behind, the token is still good. */
const FORGOTTEN = `expires_at < :now - ${MAX_CLOCK_SKEW_SECONDS}`

/** Deletes two expired rows: each new row pays for two old ones, so that tables stay as small as what is alive. */
function twoExpired(dialect: Dialect, table: string, key: string, isOld = EXPIRED): string {
  return dialect === 'mysql'
    ? `DELETE FROM ${table} WHERE ${isOld} ORDER BY expires_at LIMIT 2`
    : `DELETE FROM ${table} WHERE ${key} IN (SELECT ${key} FROM ${table} WHERE ${isOld}
        ORDER BY expires_at LIMIT 2 ${dialect === 'postgres' ? 'FOR UPDATE SKIP LOCKED' : ''})`
}

/** What the statements say of a failure count `f`; see `failures.ts` for the words. */
function failureTerms(dialect: Dialect) {
  const least = dialect === 'sqlite' ? 'min' : 'least'
  const greatest = dialect === 'sqlite' ? 'max' : 'greatest'
  const whole = { sqlite: 'INTEGER', postgres: 'integer', mysql: 'SIGNED' }[dialect]
  /** The counts turned to the period of now. A clock set back stays in the later period. */
  const inPeriod = 'CASE WHEN :period > f.period THEN 0 ELSE f.in_period END'
  const inPrevious = `CASE WHEN :period > f.period + 1 THEN 0 WHEN :period = f.period + 1 THEN f.in_period
    ELSE f.in_previous_period END`
  /** The end of the delay that one more failure sets. The shift stops at 20, where every delay is at its most. */
  const delayEnd = `CASE WHEN f.consecutive + 1 < :delayAfter THEN 0 ELSE :now + ${least}(:maxDelaySeconds,
    :firstDelaySeconds << CAST(${least}(f.consecutive + 1 - :delayAfter, 20) AS ${whole})) END`
  return {
    inPeriod,
    inPrevious,
    mayTry: `f.consecutive < :lockAfter AND f.blocked_until <= :now AND (${inPeriod}) + (${inPrevious}) < :maxPerPeriod`,
    /** In this order: MySQL assigns from left to right and sees the new values on the right. */
    countOne: `
      blocked_until = ${delayEnd},
      in_previous_period = ${inPrevious},
      in_period = (${inPeriod}) + 1,
      period = ${greatest}(f.period, :period),
      consecutive = f.consecutive + 1`,
  }
}

/** What PostgreSQL does in one round trip where the others take a transaction. */
function postgresStatements(t: Tables) {
  const { countOne, mayTry } = failureTerms('postgres')
  /** The columns are named: `a.*` would change its meaning under a prepared statement when a migration adds one. */
  const reserve = (columns: string, from: string) => `
    WITH u AS (SELECT generation, changed_at, confirmed_at FROM ${t.user} WHERE user_id = :userId),
    factor AS (SELECT ${columns} FROM ${from}),
    open_challenge AS (
      SELECT 1 WHERE :tokenId IS NULL OR (
        :generation = coalesce((SELECT generation FROM u), 0)
        AND NOT EXISTS (SELECT 1 FROM ${t.burntToken} WHERE token_id = :tokenId))),
    reserved AS (
      INSERT INTO ${t.failure} AS f (user_id, method, consecutive, blocked_until, period, in_period, in_previous_period)
      SELECT :userId, :method, 1, CASE WHEN 1 < :delayAfter THEN 0 ELSE :now + :firstDelaySeconds END, :period, 1, 0
      FROM open_challenge WHERE EXISTS (SELECT 1 FROM factor)
      ON CONFLICT (user_id, method) DO UPDATE SET ${countOne} WHERE ${mayTry}
      RETURNING f.consecutive)
    SELECT u.generation, u.changed_at, u.confirmed_at, factor.*,
      EXISTS (SELECT 1 FROM open_challenge) AS is_open, (SELECT consecutive FROM reserved) AS consecutive
    FROM (SELECT 1) AS one LEFT JOIN u ON true LEFT JOIN factor ON true ORDER BY factor.created_at, factor.id`
  /**
   * `code` locks the unspent step or code, waiting for another spending and looking again after it; then the challenge
   * is burnt, then the code marked. Each part needs a row of the one before, so nothing is written unless all is.
   */
  const spend = (code: string, mark: string) => `
    WITH u AS (
      SELECT user_id FROM ${t.user} WHERE user_id = :userId AND generation = :generation FOR SHARE),
    code AS (${code}),
    burnt AS (
      INSERT INTO ${t.burntToken} (token_id, expires_at)
      SELECT :tokenId, :expiresAt FROM code WHERE :tokenId IS NOT NULL ON CONFLICT DO NOTHING RETURNING 1),
    good AS (SELECT 1 FROM code WHERE :tokenId IS NULL OR EXISTS (SELECT 1 FROM burnt)),
    marked AS (${mark} AND EXISTS (SELECT 1 FROM good) RETURNING 1),
    given_back AS (
      UPDATE ${t.failure} SET consecutive = 0, blocked_until = 0, in_period = greatest(0, in_period - 1)
      WHERE user_id = :userId AND method = :method AND EXISTS (SELECT 1 FROM marked)),
    forgotten AS (${twoExpired('postgres', t.burntToken, 'token_id', FORGOTTEN)})
    SELECT (SELECT count(*) FROM u) AS current, (SELECT count(*) FROM code) AS unspent,
      (SELECT count(*) FROM marked) AS marked,
      (SELECT count(*) FROM ${t.backupCode} WHERE user_id = :userId AND used_at IS NULL) AS remaining`
  return {
    reserveLive: reserve(LIVE, `${t.authenticator} WHERE user_id = :userId`),
    reservePending: reserve(PENDING, `${t.pending} WHERE user_id = :userId AND expires_at > :now`),
    spendStepWhole: spend(
      `SELECT a.id FROM ${t.authenticator} AS a, u
        WHERE a.id = :authenticatorId AND a.user_id = u.user_id AND a.last_step < :step FOR UPDATE OF a`,
      `UPDATE ${t.authenticator} SET last_step = :step, last_used_at = :now, drift_steps = :driftSteps,
        far_step = CASE WHEN far_step > :step THEN far_step END
        WHERE id = :authenticatorId AND user_id = :userId AND last_step < :step`,
    ),
    spendBackupCodeWhole: spend(
      `SELECT c.digest FROM ${t.backupCode} AS c, u
        WHERE c.user_id = u.user_id AND c.digest = ANY(:digests) AND c.used_at IS NULL LIMIT 1 FOR UPDATE OF c`,
      `UPDATE ${t.backupCode} SET used_at = :now
        WHERE user_id = :userId AND digest = (SELECT digest FROM code) AND used_at IS NULL`,
    ),
    openFamilyWhole: `
      WITH forgotten AS (${twoExpired('postgres', t.refreshFamily, 'id')})
      INSERT INTO ${t.refreshFamily} (id, user_id, token_id, generation, expires_at)
      VALUES (:id, :userId, :tokenId, :generation, :expiresAt)`,
    /** The family ends where nothing was rotated; a rotation that raced is waited for, and the row looked at again. */
    rotateFamilyWhole: `
      WITH rotated AS (
        UPDATE ${t.refreshFamily} AS f SET token_id = :newTokenId, expires_at = :expiresAt
        WHERE f.id = :familyId AND f.token_id = :tokenId AND f.expires_at > :now AND f.generation =
          coalesce((SELECT u.generation FROM ${t.user} AS u WHERE u.user_id = f.user_id), 0)
        RETURNING 1),
      ended AS (DELETE FROM ${t.refreshFamily} WHERE id = :familyId AND NOT EXISTS (SELECT 1 FROM rotated))
      SELECT count(*) AS rotated FROM rotated`,
    countCallWhole: `
      WITH forgotten AS (${twoExpired('postgres', t.throttle, 'key_digest', `${EXPIRED} AND key_digest <> :keyDigest`)})
      INSERT INTO ${t.throttle} AS c (key_digest, calls, expires_at) VALUES (:keyDigest, 1, :expiresAt)
      ON CONFLICT (key_digest) DO UPDATE SET
        calls = CASE WHEN c.expires_at <= :now OR c.expires_at > :expiresAt THEN 1 ELSE c.calls + 1 END,
        expires_at = CASE WHEN c.expires_at <= :now OR c.expires_at > :expiresAt THEN :expiresAt ELSE c.expires_at END
      RETURNING calls, expires_at`,
  }
}
