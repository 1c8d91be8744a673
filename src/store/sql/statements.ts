import { failureSql } from '../failure-budget.ts'
import { MAX_CLOCK_SKEW_SECONDS } from '../single-use.ts'
import { compile, type Dialect, type Statement } from './dialect.ts'
import { listColumns, readVersion } from './migrations.ts'
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
  /** As `locked`, and a shared lock on the same key does not wait for it. */
  const lockedRow = { sqlite: '', postgres: 'FOR NO KEY UPDATE', mysql: 'FOR UPDATE' }[dialect]
  /** MySQL wants a table before WHERE. */
  const dual = dialect === 'mysql' ? 'FROM DUAL' : ''
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

  const { columns: failureColumns, isOpen, firstDelayEnd, assignments } = failureSql(dialect)
  // MySQL has no other name for a row that an INSERT finds.
  const found = failureSql('mysql', t.failure)
  /** The user's row is the one that this change has claimed. */
  const claimed = `EXISTS (SELECT 1 FROM ${t.user} AS g WHERE g.user_id = :userId AND g.change_id = :changeId)`
  /** As `claimed`; for some changes only where 2FA was off. */
  const claimedFirst = `EXISTS (SELECT 1 FROM ${t.user} AS g WHERE g.user_id = :userId AND g.change_id = :changeId
    AND (:isFirstOnly = 0 OR g.confirmed_at IS NULL))`
  const windowColumn = dialect === 'mysql' ? 'expires_at' : 'c.expires_at'
  const callsColumn = dialect === 'mysql' ? 'calls' : 'c.calls'
  /** The generation after this change has raised it; null where it has not claimed the user. */
  const newGeneration = `(SELECT g.generation FROM ${t.user} AS g WHERE g.user_id = :userId AND g.change_id = :changeId)`
  /** This attempt was admitted, and is right. */
  const proved = `EXISTS (SELECT 1 FROM ${t.failure} AS p WHERE p.user_id = :userId AND p.method = :method
    AND p.attempt_id = :attemptId AND p.consecutive = 0)`
  const isCurrent = `EXISTS (SELECT 1 FROM ${t.user} AS g WHERE g.user_id = :userId AND g.generation = :generation)`
  const isUnused = `(:tokenId IS NULL OR NOT EXISTS (SELECT 1 FROM ${t.burntToken} AS b WHERE b.token_id = :tokenId))`
  /**
   * Admits an attempt and counts it: as a success where `isRight`, as a failure where `isWrong`. The row carries the
   * attempt's id from then on. Where it is neither, or is not admitted, nothing is written.
   */
  const settle = (isRight: string, isWrong: string) => {
    const columns = 'user_id, method, consecutive, blocked_until, period, in_period, in_previous_period, attempt_id'
    const proposed = `
      SELECT :userId, :method, v.is_wrong, CASE WHEN v.is_wrong = 1 THEN ${firstDelayEnd} ELSE 0 END, :period, v.is_wrong, 0,
        :attemptId
      FROM (SELECT CASE WHEN ${isRight} THEN 1 ELSE 0 END AS is_right, CASE WHEN ${isWrong} THEN 1 ELSE 0 END AS is_wrong
        ${dialect === 'mysql' ? 'FROM DUAL' : ''} WHERE ${isCurrent} AND ${isUnused}) AS v
      WHERE v.is_right = 1 OR v.is_wrong = 1`
    if (dialect === 'mysql') {
      // Admitted first: what stands to the right of it sees by the id whether it was.
      const right = 'VALUES(consecutive) = 0'
      return `
        INSERT INTO ${t.failure} (${columns}) ${proposed}
        ON DUPLICATE KEY UPDATE
          attempt_id = CASE WHEN ${found.isOpen} OR :isCounted = 1 AND ${right} THEN :attemptId
            ELSE ${t.failure}.attempt_id END,
          ${found.assignments(right, ':isCounted', `${t.failure}.attempt_id = :attemptId`)}`
    }
    const right = 'excluded.consecutive = 0'
    return `
      INSERT INTO ${t.failure} AS f (${columns}) ${proposed}
      ON CONFLICT (user_id, method) DO UPDATE SET ${assignments(right, ':isCounted')}, attempt_id = excluded.attempt_id
      WHERE ${isOpen} OR :isCounted = 1 AND ${right}`
  }
  const liveStep = `SELECT 1 FROM ${t.authenticator} AS a WHERE a.id = :authenticatorId AND a.user_id = :userId`
  const digests = {
    sqlite: 'IN (SELECT value FROM json_each(:digests))',
    postgres: '= ANY (ARRAY(SELECT json_array_elements_text(:digests::json)))',
    mysql: `IN (SELECT CAST(listed.digest AS BINARY) FROM JSON_TABLE(:digests, '$[*]'
      COLUMNS (digest VARCHAR(255) CHARACTER SET utf8mb4 PATH '$')) AS listed)`,
  }[dialect]
  const unusedCode = `SELECT 1 FROM ${t.backupCode} AS c WHERE c.user_id = :userId AND c.digest ${digests} AND c.used_at IS NULL`
  /**
   * What an attempt is judged by, with the budget, in one row for each authenticator.
   *
   * @param lock - locks the user and the authenticators. Never the failures: within a transaction of the host's they are
   * counted outside it
   */
  const factors = (columns: string, from: string, lock = '') => `
    SELECT u.generation, u.changed_at, u.confirmed_at, f.is_counted, f.consecutive, f.blocked_until, f.period, f.in_period,
      f.in_previous_period, ${isUnused} AS is_unused, a.*
    FROM (SELECT 1 AS one) AS o
    LEFT JOIN (SELECT generation, changed_at, confirmed_at FROM ${t.user} WHERE user_id = :userId ${lock}) AS u ON 1 = 1
    LEFT JOIN (SELECT 1 AS is_counted, ${failureColumns} FROM ${t.failure} AS f
      WHERE f.user_id = :userId AND f.method = :method) AS f ON 1 = 1
    LEFT JOIN (SELECT ${columns} FROM ${from} ${lock}) AS a ON 1 = 1
    ORDER BY a.created_at, a.id`

  return {
    ensureUser: insertNew(
      `${t.user} (user_id, generation, changed_at)`,
      // Looked for first: MySQL's INSERT IGNORE holds a shared lock on a row that is there, and two that hold one and want
      // to write wait for each other for ever.
      `SELECT :userId, 0, 0 ${dialect === 'mysql' ? 'FROM DUAL' : ''}
        WHERE NOT EXISTS (SELECT 1 FROM ${t.user} AS g WHERE g.user_id = :userId)`,
    ),
    getUser: `SELECT generation, changed_at, confirmed_at FROM ${t.user} WHERE user_id = :userId`,
    /** Of two changes of one user at once, one waits here, and its later statements see what the other has done. */
    lockUser: `SELECT generation, changed_at, confirmed_at FROM ${t.user} WHERE user_id = :userId ${lockedRow}`,
    /** A change begins by claiming the user's row; the rest of it does nothing where this has not. */
    claimUser: `UPDATE ${t.user} SET change_id = :changeId WHERE user_id = :userId AND generation = :generation`,
    claimUserWithFactor: `
      UPDATE ${t.user} SET change_id = :changeId
      WHERE user_id = :userId AND generation = :generation AND confirmed_at IS NOT NULL`,
    /** Where there is room for one more. */
    claimUserWithRoom: `
      UPDATE ${t.user} SET change_id = :changeId WHERE user_id = :userId AND generation = :generation
        AND (SELECT count(*) FROM ${t.authenticator} AS a WHERE a.user_id = :userId) < :maxAuthenticators`,
    /** Where the authenticator is one of several. */
    claimUserOfSeveral: `
      UPDATE ${t.user} SET change_id = :changeId WHERE user_id = :userId AND generation = :generation
        AND (SELECT count(*) FROM ${t.authenticator} AS a WHERE a.user_id = :userId) > 1
        AND EXISTS (${liveStep})`,
    /** Where no token is needed, or it is not consumed yet and the right password was admitted. */
    claimUserByToken: `
      UPDATE ${t.user} SET change_id = :changeId WHERE user_id = :userId AND generation = :generation
        AND (:tokenId IS NULL OR ${proved})`,
    claimUserByCode: `UPDATE ${t.user} SET change_id = :changeId WHERE user_id = :userId AND ${proved}`,
    claimAnyUser: `UPDATE ${t.user} SET change_id = :changeId WHERE user_id = :userId`,
    raiseGeneration: `
      UPDATE ${t.user} SET generation = generation + 1, changed_at = ${greatest}(changed_at, :now) + 1
      WHERE user_id = :userId AND change_id = :changeId`,
    /** Where 2FA is off, a removal ends nothing else. */
    raiseGenerationOfFactor: `
      UPDATE ${t.user} SET generation = generation + 1, changed_at = ${greatest}(changed_at, :now) + 1
      WHERE user_id = :userId AND change_id = :changeId AND confirmed_at IS NOT NULL`,
    switchOn: `
      UPDATE ${t.user} SET confirmed_at = coalesce(confirmed_at, :now) WHERE user_id = :userId AND change_id = :changeId`,
    switchOff: `
      UPDATE ${t.user} SET confirmed_at = NULL, codes_saved_at = NULL WHERE user_id = :userId AND change_id = :changeId`,
    getWholeUser: `
      SELECT generation, changed_at, confirmed_at, codes_saved_at FROM ${t.user} WHERE user_id = :userId`,
    noteCodesSaved: `
      UPDATE ${t.user} SET codes_saved_at = :now WHERE user_id = :userId AND confirmed_at IS NOT NULL`,
    forgetCodesSaved: `
      UPDATE ${t.user} SET codes_saved_at = NULL
      WHERE user_id = :userId AND change_id = :changeId AND (:isFirstOnly = 0 OR confirmed_at IS NULL)`,

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
    readLive: factors(LIVE, `${t.authenticator} WHERE user_id = :userId`),
    readPending: factors(PENDING, `${t.pending} WHERE user_id = :userId AND expires_at > :now`),
    /** Of now, where a host's transaction has a snapshot of before. */
    readLiveNow: factors(LIVE, `${t.authenticator} WHERE user_id = :userId`, locked),
    readPendingNow: factors(PENDING, `${t.pending} WHERE user_id = :userId AND expires_at > :now`, locked),
    /** Locked, so that a host's transaction sees those of now, not those of its snapshot. */
    lockLive: `SELECT id FROM ${t.authenticator} WHERE user_id = :userId ${locked}`,
    getPending: `SELECT ${PENDING}, session_digest FROM ${t.pending} WHERE user_id = :userId AND expires_at > :now`,
    insertPending: `
      INSERT INTO ${t.pending} (user_id, ${AUTHENTICATOR}, expires_at, session_digest)
      SELECT :userId, :id, :name, :sealedSecret, :algorithm, :digits, :periodSeconds, :createdAt, :expiresAt,
        :sessionDigest ${dual} WHERE ${claimed}`,
    copyPendingToLive: `
      INSERT INTO ${t.authenticator} (user_id, ${AUTHENTICATOR}, last_step, last_used_at, drift_steps)
      SELECT user_id, ${AUTHENTICATOR}, :step, :now, :driftSteps FROM ${t.pending}
      WHERE user_id = :userId AND id = :authenticatorId AND ${claimed}`,
    insertLive: `
      INSERT INTO ${t.authenticator} (user_id, ${AUTHENTICATOR}, last_step, last_used_at, drift_steps)
      SELECT :userId, :id, :name, :sealedSecret, :algorithm, :digits, :periodSeconds, :createdAt, :lastStep, :lastUsedAt,
        0 ${dual} WHERE ${claimed}`,
    renameAuthenticator: `
      UPDATE ${t.authenticator} SET name = :name WHERE user_id = :userId AND id = :authenticatorId`,
    deleteAuthenticator: `
      DELETE FROM ${t.authenticator} WHERE user_id = :userId AND id = :authenticatorId AND ${claimed}`,
    /** Where the new one is one too many: the one that was used least lately. MySQL reads the table it writes only so. */
    deleteLeastUsed: `
      DELETE FROM ${t.authenticator} WHERE user_id = :userId AND ${claimed} AND id = (
        SELECT l.id FROM (
          SELECT a.id FROM ${t.authenticator} AS a WHERE a.user_id = :userId AND a.id <> :authenticatorId
          ORDER BY coalesce(a.last_used_at, 0), a.created_at, a.id LIMIT 1) AS l
        WHERE (SELECT n.counted FROM (
          SELECT count(*) AS counted FROM ${t.authenticator} AS a WHERE a.user_id = :userId) AS n) > :maxAuthenticators)`,
    deleteLive: `DELETE FROM ${t.authenticator} WHERE user_id = :userId AND ${claimed}`,
    deletePending: `DELETE FROM ${t.pending} WHERE user_id = :userId AND ${claimed}`,
    deleteExpiredPending: `DELETE FROM ${t.pending} WHERE expires_at < :now`,

    /** RFC 6238 §5.2: by then the attempt's row says that the step was unspent, and the user's other attempts wait. */
    spendStep: `
      UPDATE ${t.authenticator} SET last_step = :step, last_used_at = :now, drift_steps = :driftSteps,
        far_step = CASE WHEN far_step > :step THEN far_step END
      WHERE id = :authenticatorId AND user_id = :userId AND last_step < :step AND ${proved}`,
    noteResyncStep: `
      UPDATE ${t.authenticator} SET far_step = ${laterFarStep} WHERE id = :authenticatorId AND user_id = :userId`,
    noteResyncStepOfPending: `
      UPDATE ${t.pending} SET far_step = ${laterFarStep} WHERE user_id = :userId AND id = :authenticatorId`,

    /** One code, whichever of the digests it has. */
    spendBackupCode: `
      UPDATE ${t.backupCode} SET used_at = :now WHERE user_id = :userId AND used_at IS NULL AND ${proved} AND digest = (
        SELECT m.digest FROM (
          SELECT min(c.digest) AS digest FROM ${t.backupCode} AS c
          WHERE c.user_id = :userId AND c.digest ${digests} AND c.used_at IS NULL) AS m)`,
    countBackupCodes: `
      SELECT count(*) AS remaining FROM ${t.backupCode} WHERE user_id = :userId AND used_at IS NULL`,
    /** Whether one of the digests is that of an unused code, as of now: a host's transaction may have a snapshot of before. */
    findBackupCode: `${unusedCode} ${locked}`,
    listBackupCodes: `SELECT sealed_code, used_at FROM ${t.backupCode} WHERE user_id = :userId ORDER BY position`,
    deleteBackupCodes: `DELETE FROM ${t.backupCode} WHERE user_id = :userId AND ${claimedFirst}`,
    insertBackupCode: `
      INSERT INTO ${t.backupCode} (user_id, digest, position, sealed_code)
      SELECT :userId, :digest, :position, :sealedCode ${dual} WHERE ${claimedFirst}`,

    settleStep: settle(`EXISTS (${liveStep} AND a.last_step < :step)`, `NOT EXISTS (${liveStep})`),
    settleBackupCode: settle(`EXISTS (${unusedCode})`, `NOT EXISTS (${unusedCode})`),
    settlePending: settle(
      `EXISTS (SELECT 1 FROM ${t.pending} AS p
        WHERE p.user_id = :userId AND p.id = :authenticatorId AND p.expires_at > :now)`,
      '1 = 0',
    ),
    settlePassword: settle(':isRight = 1', ':isRight = 0'),
    /** How an attempt was settled, and why it was not. */
    getSettled: `
      SELECT f.attempt_id, ${failureColumns}, ${isCurrent} AS is_current, ${isUnused} AS is_unused
      FROM (SELECT 1 AS one) AS o LEFT JOIN ${t.failure} AS f ON f.user_id = :userId AND f.method = :method`,
    getFailures: `SELECT ${failureColumns} FROM ${t.failure} AS f WHERE f.user_id = :userId AND f.method = :method`,
    failuresIn: `
      SELECT f.user_id, ${failureColumns} FROM ${t.failure} AS f WHERE f.method = 'totp' AND f.user_id ${among}`,
    clearConsecutiveFailures: `
      UPDATE ${t.failure} SET consecutive = 0, blocked_until = 0 WHERE user_id = :userId AND ${claimed}
        AND EXISTS (SELECT 1 FROM ${t.user} AS g WHERE g.user_id = :userId AND g.confirmed_at IS NOT NULL)`,
    forgiveRecoveryPasswords: `
      UPDATE ${t.failure} SET consecutive = 0, blocked_until = 0
      WHERE user_id = :userId AND method = 'recovery_password' AND ${claimed}`,
    clearFailures: `DELETE FROM ${t.failure} WHERE user_id = :userId`,
    /** Where 2FA is off. */
    liftLock: `
      UPDATE ${t.failure} SET consecutive = 0 WHERE user_id = :userId AND consecutive >= :lockAfter AND ${claimed}
        AND EXISTS (SELECT 1 FROM ${t.user} AS g WHERE g.user_id = :userId AND g.confirmed_at IS NULL)`,
    liftLockOfApp: `
      UPDATE ${t.failure} SET consecutive = 0
      WHERE user_id = :userId AND method = 'totp' AND consecutive >= :lockAfter AND ${claimed}
        AND EXISTS (SELECT 1 FROM ${t.user} AS g WHERE g.user_id = :userId AND g.confirmed_at IS NULL)`,

    consumeToken: insertNew(`${t.burntToken} (token_id, expires_at)`, 'VALUES (:tokenId, :expiresAt)'),
    consumeTokenOfAttempt: insertNew(
      `${t.burntToken} (token_id, expires_at)`,
      `SELECT :tokenId, :expiresAt ${dual} WHERE ${proved}`,
    ),
    isBurnt: `SELECT 1 AS burnt FROM ${t.burntToken} WHERE token_id = :tokenId`,
    forgetTwoBurntTokens: twoExpired(dialect, t.burntToken, 'token_id', FORGOTTEN),
    deleteExpiredBurntTokens: `DELETE FROM ${t.burntToken} WHERE ${FORGOTTEN}`,

    openFamily: `
      INSERT INTO ${t.refreshFamily} (id, user_id, token_id, generation, expires_at)
      VALUES (:id, :userId, :tokenId, :generation, :expiresAt)`,
    openFamilyOfAttempt: `
      INSERT INTO ${t.refreshFamily} (id, user_id, token_id, generation, expires_at)
      SELECT :id, :userId, :tokenId, :generation, :expiresAt ${dual} WHERE ${proved}`,
    forgetTwoFamilies: deleteTwoExpired(t.refreshFamily, 'id'),
    deleteExpiredFamilies: `DELETE FROM ${t.refreshFamily} WHERE expires_at < :now`,
    rotateFamily: `
      UPDATE ${t.refreshFamily} SET token_id = :newTokenId, expires_at = :expiresAt
      WHERE id = :familyId AND token_id = :tokenId AND expires_at > :now AND generation =
        coalesce((SELECT u.generation FROM ${t.user} AS u WHERE u.user_id = ${t.refreshFamily}.user_id), 0)`,
    /** After a rotation the family's token is the new one; else the family ends. */
    endUnrotatedFamily: `DELETE FROM ${t.refreshFamily} WHERE id = :familyId AND token_id <> :newTokenId`,
    raiseFamily: `
      UPDATE ${t.refreshFamily} SET token_id = :newTokenId, expires_at = :expiresAt
      WHERE id = :familyId AND user_id = :userId AND expires_at > :now AND generation = :generation AND generation =
        coalesce((SELECT u.generation FROM ${t.user} AS u WHERE u.user_id = :userId), 0)`,
    getFamily: `
      SELECT f.token_id FROM ${t.refreshFamily} AS f LEFT JOIN ${t.user} AS u ON u.user_id = f.user_id
      WHERE f.id = :familyId AND f.expires_at > :now AND f.generation = coalesce(u.generation, 0)`,
    endFamily: `DELETE FROM ${t.refreshFamily} WHERE id = :familyId`,
    keepFamily: `
      UPDATE ${t.refreshFamily} SET generation = generation + 1
      WHERE id = :keepFamilyId AND user_id = :userId AND generation + 1 = ${newGeneration}`,
    endStaleFamilies: `DELETE FROM ${t.refreshFamily} WHERE user_id = :userId AND generation < ${newGeneration}`,

    /** The generation stands in the row: an earlier version that shares the database raises it and knows no devices. */
    keepDevice: `
      INSERT INTO ${t.trustedDevice}
        (id, user_id, name, token_digest, generation, created_at, last_used_at, expires_at)
      SELECT :id, :userId, :name, :tokenDigest, :generation, :createdAt, :lastUsedAt, :expiresAt ${dual}
      WHERE :generation = coalesce((SELECT g.generation FROM ${t.user} AS g WHERE g.user_id = :userId), 0)`,
    forgetTwoDevices: deleteTwoExpired(t.trustedDevice, 'id'),
    deleteExpiredDevices: `DELETE FROM ${t.trustedDevice} WHERE expires_at < :now`,
    rotateDevice: `
      UPDATE ${t.trustedDevice} SET token_digest = :newTokenDigest, last_used_at = :now
      WHERE id = :deviceId AND user_id = :userId AND token_digest = :tokenDigest AND expires_at > :now
        AND generation = :generation
        AND generation = coalesce((SELECT u.generation FROM ${t.user} AS u WHERE u.user_id = :userId), 0)`,
    endUnrotatedDevice: `
      DELETE FROM ${t.trustedDevice} WHERE id = :deviceId AND user_id = :userId AND token_digest <> :newTokenDigest`,
    listDevices: `
      SELECT d.id, d.name, d.token_digest, d.created_at, d.last_used_at, d.expires_at
      FROM ${t.trustedDevice} AS d LEFT JOIN ${t.user} AS u ON u.user_id = d.user_id
      WHERE d.user_id = :userId AND d.expires_at > :now AND d.generation = coalesce(u.generation, 0)
      ORDER BY d.created_at DESC, d.id`,
    endDevice: `DELETE FROM ${t.trustedDevice} WHERE id = :deviceId AND user_id = :userId`,
    endDevices: `DELETE FROM ${t.trustedDevice} WHERE user_id = :userId`,
    endStaleDevices: `DELETE FROM ${t.trustedDevice} WHERE user_id = :userId AND generation < ${newGeneration}`,

    /** A window that has ended begins anew, and so does one that a clock set back would keep open too long. */
    countCall: `
      INSERT INTO ${t.throttle} ${dialect === 'mysql' ? '' : 'AS c'} (key_digest, calls, expires_at)
      VALUES (:keyDigest, 1, :expiresAt) ${dialect === 'mysql' ? 'ON DUPLICATE KEY UPDATE' : 'ON CONFLICT (key_digest) DO UPDATE SET'}
        calls = CASE WHEN ${windowColumn} <= :now OR ${windowColumn} > :expiresAt THEN 1 ELSE ${callsColumn} + 1 END,
        expires_at = CASE WHEN ${windowColumn} <= :now OR ${windowColumn} > :expiresAt THEN :expiresAt ELSE ${windowColumn} END`,
    getCalls: `SELECT calls, expires_at FROM ${t.throttle} WHERE key_digest = :keyDigest`,
    forgetTwoCalls: deleteTwoExpired(t.throttle, 'key_digest'),
    deleteExpiredCalls: `DELETE FROM ${t.throttle} WHERE expires_at < :now`,

    keepKeyCheck: insertNew(`${t.canary} (id, sealed)`, 'VALUES (1, :sealed)'),
    getKeyCheck: `SELECT sealed FROM ${t.canary} WHERE id = 1`,
    getVersion: readVersion(t),
    listColumns: listColumns(dialect, t),
  }
}

const EXPIRED = 'expires_at < :now'
/** A burnt mark outlives its token for as long as clocks may differ: where a clock is behind, the token is still good. */
const FORGOTTEN = `expires_at < :now - ${MAX_CLOCK_SKEW_SECONDS}`

/** Deletes two expired rows: each new row pays for two old ones, so that tables stay as small as what is alive. */
function twoExpired(dialect: Dialect, table: string, key: string, isOld = EXPIRED): string {
  const oldest = (column: string) => `SELECT ${column} FROM ${table} WHERE ${isOld} ORDER BY expires_at LIMIT 2`
  switch (dialect) {
    case 'sqlite':
      return `DELETE FROM ${table} WHERE ${key} IN (${oldest(key)})`
    case 'postgres':
      // By the place of the row, which needs no second look into an index.
      return `DELETE FROM ${table} WHERE ctid = ANY (ARRAY(${oldest('ctid')} FOR UPDATE SKIP LOCKED))`
    case 'mysql':
      return `DELETE FROM ${table} WHERE ${isOld} ORDER BY expires_at LIMIT 2`
  }
}

/**
 * What PostgreSQL does in one statement, and so in one round trip, where the others take several.
 *
 * A statement sees the rows of its beginning, except those that it locks or that it meets by a unique key: these it sees as
 * they are when it gets them. So the user, the step or the code, and the count of failures are locked in this order before
 * anything is decided by them, and each part needs a row of the one before.
 */
function postgresStatements(t: Tables) {
  const { isOpen, firstDelayEnd, assignments, columns: failureColumns } = failureSql('postgres')
  /** For this statement only. A flow answers 503 after ten seconds, and nothing may be done after that. */
  const shortWait = "(SELECT set_config('lock_timeout', '9000', true)) AS short_wait"
  const settle = (code: string, isWrong: string, mark: string, remaining: string) => `
    WITH u AS (
      SELECT g.generation FROM ${t.user} AS g, ${shortWait} WHERE g.user_id = :userId AND g.generation = :generation
        AND (:tokenId IS NULL OR NOT EXISTS (SELECT 1 FROM ${t.burntToken} AS b WHERE b.token_id = :tokenId))
      FOR NO KEY UPDATE OF g),
    code AS (${code}),
    v AS (
      SELECT EXISTS (SELECT 1 FROM code) AS is_right, ${isWrong} AS is_wrong FROM u),
    admitted AS (
      INSERT INTO ${t.failure} AS f
        (user_id, method, consecutive, blocked_until, period, in_period, in_previous_period, attempt_id)
      SELECT :userId, :method, v.is_wrong::integer, CASE WHEN v.is_wrong THEN ${firstDelayEnd} ELSE 0 END, :period,
        v.is_wrong::integer, 0, :attemptId
      FROM v WHERE v.is_right OR v.is_wrong
      ON CONFLICT (user_id, method) DO UPDATE SET
        ${assignments('(SELECT is_right FROM v)', ':isCounted')}, attempt_id = excluded.attempt_id
      WHERE ${isOpen} OR :isCounted = 1 AND (SELECT is_right FROM v)
      RETURNING ${failureColumns}),
    burnt AS (
      INSERT INTO ${t.burntToken} (token_id, expires_at)
      SELECT :tokenId, :tokenExpiresAt FROM v, admitted WHERE v.is_right AND :tokenId IS NOT NULL
      ON CONFLICT DO NOTHING RETURNING 1),
    good AS (
      SELECT 1 FROM v, admitted WHERE v.is_right AND (:tokenId IS NULL OR EXISTS (SELECT 1 FROM burnt))),
    marked AS (${mark} AND EXISTS (SELECT 1 FROM good) RETURNING 1),
    opened AS (
      INSERT INTO ${t.refreshFamily} (id, user_id, token_id, generation, expires_at)
      SELECT :familyId, :userId, :familyTokenId, :generation, :familyExpiresAt FROM good WHERE :familyId IS NOT NULL),
    forgotten AS (${twoExpired('postgres', t.burntToken, 'token_id', FORGOTTEN)} AND :tokenId IS NOT NULL),
    ended AS (${twoExpired('postgres', t.refreshFamily, 'id')} AND :familyId IS NOT NULL)
    SELECT (SELECT count(*) FROM u) AS is_current, v.is_right, v.is_wrong, admitted.*,
      (SELECT count(*) FROM marked) AS marked, ${remaining} AS remaining
    FROM (SELECT 1) AS one LEFT JOIN v ON true LEFT JOIN admitted ON true`
  return {
    settleStepWhole: settle(
      `SELECT a.id FROM ${t.authenticator} AS a, u
        WHERE a.id = :authenticatorId AND a.user_id = :userId AND a.last_step < :step FOR NO KEY UPDATE OF a`,
      `NOT EXISTS (SELECT 1 FROM ${t.authenticator} AS a WHERE a.id = :authenticatorId AND a.user_id = :userId)`,
      `UPDATE ${t.authenticator} SET last_step = :step, last_used_at = :now, drift_steps = :driftSteps,
        far_step = CASE WHEN far_step > :step THEN far_step END
        WHERE id = :authenticatorId AND user_id = :userId AND last_step < :step`,
      'NULL::bigint',
    ),
    settleBackupCodeWhole: settle(
      `SELECT c.digest FROM ${t.backupCode} AS c, u
        WHERE c.user_id = :userId AND c.digest = ANY(ARRAY(SELECT json_array_elements_text(:digests::json)))
          AND c.used_at IS NULL LIMIT 1 FOR NO KEY UPDATE OF c`,
      // As of the statement's beginning: a code that was used since then is neither right nor wrong yet.
      `NOT EXISTS (SELECT 1 FROM ${t.backupCode} AS c
        WHERE c.user_id = :userId AND c.digest = ANY(ARRAY(SELECT json_array_elements_text(:digests::json)))
          AND c.used_at IS NULL)`,
      `UPDATE ${t.backupCode} SET used_at = :now
        WHERE user_id = :userId AND digest = (SELECT digest FROM code) AND used_at IS NULL`,
      `(SELECT count(*) FROM ${t.backupCode} WHERE user_id = :userId AND used_at IS NULL)`,
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
