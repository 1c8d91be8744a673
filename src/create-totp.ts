import { randomBytes } from 'node:crypto'
import { createAnnouncer, type Listen } from './announcer.ts'
import { checkOptions, type OptionNames } from './check-options.ts'
import { type Clock, systemClock } from './clock.ts'
import { hostValues } from './crypto/host-value.ts'
import { createKeyring, type Keyring } from './crypto/keyring.ts'
import { tokenSealer } from './crypto/sealed-token.ts'
import { openValue, sealValue } from './crypto/sealed-value.ts'
import { readEncryptionKeys } from './encryption-key.ts'
import type { By, TotpEvent } from './events.ts'
import { credentialsChanged, deleteExpired, forgetUser, getStatuses, unlock } from './flows/account.ts'
import { backupCodesSaved, listBackupCodes, rotateBackupCodes, storeBackupCodes } from './flows/backup-codes.ts'
import {
  answerChallenge,
  generateChallengeToken,
  getUserFromChallengeToken,
  longestChallengeSeconds,
  verifyChallengeToken,
} from './flows/challenge.ts'
import {
  backgroundTasks,
  type Context,
  causedBy,
  type Enforcement,
  type EnforcementRule,
  failClosed,
  registerContext,
} from './flows/context.ts'
import { type EnforcementForecast, forecastEnforcement, verifyEnrollmentToken } from './flows/enforcement.ts'
import {
  type Confirmation,
  confirmTotpSetup,
  createTotpSetup,
  type SetupNames,
  type TotpSetup,
} from './flows/enrollment.ts'
import { type AuthenticatorImport, importAuthenticator } from './flows/import.ts'
import { type FirstFactor, type LoginStart, startLogin } from './flows/login.ts'
import { firstFactorOf, type Proof } from './flows/proof.ts'
import { disableTotp, removeAuthenticator, renameAuthenticator } from './flows/removal.ts'
import { getStatus, isTotpEnabled, type Status } from './flows/status.ts'
import {
  type Caller,
  type CallerSession,
  type Freshness,
  grantHost,
  grantStepUp,
  type Nobody,
  requireFresh,
} from './flows/step-up.ts'
import { memoryThrottle, storeThrottle } from './flows/throttle.ts'
import {
  listTrustedDevices,
  removeTrustedDevice,
  removeTrustedDevices,
  type TrustedDevice,
  trustDevice,
} from './flows/trusted-devices.ts'
import { proveCode, type TypedCode } from './flows/verify-code.ts'
import { contextHolding, contextWithin, tellAll, type WithinLimits } from './flows/within.ts'
import { POLICY_OPTIONS, type PolicyOptions } from './policy.ts'
import { resolvePolicy } from './resolve-policy.ts'
import type { TotpStore } from './store/store.ts'

/** The options of {@link createTotp}. One that does not exist is refused with a `TypeError`. */
export interface TotpOptions<User> extends PolicyOptions {
  /**
   * One Fernet key or several (a list, or one string with commas): the first encrypts, all decrypt. Required; made by
   * {@link generateFernetKey} or `totp-kit keygen`.
   */
  encryptionKey: string | readonly string[] | undefined
  /** Where users' factors are stored. Required: `sqliteStore`, `postgresStore`, `mysqlStore`, `memoryStore`, or your own. */
  store: TotpStore
  /**
   * Finds a user by id; null when there is none or the user may not log in. Called before a challenge is answered and before
   * tokens are refreshed or verified. Default: every user may log in.
   */
  findUser?: ((userId: string) => User | null | Promise<User | null>) | undefined
  /** Which users must have a second factor; requires `findUser`. Default: none. */
  enforcement?: Enforcement<User> | undefined
  /**
   * Receives errors that must not reach clients: why something was unavailable, what a listener threw. Default: one line on
   * stderr.
   */
  onError?: ((error: unknown) => void) | undefined
  /** Tells the time, in Unix seconds. Default: the clock of this machine. Give another one in tests. */
  clock?: Clock | undefined
}

const BY_NAMES: OptionNames<By> = { sessionId: true, actor: true }

const TOTP_OPTIONS: OptionNames<TotpOptions<unknown>> = {
  ...POLICY_OPTIONS,
  encryptionKey: true,
  store: true,
  findUser: true,
  enforcement: { required: true, accountName: true, issuer: true },
  onError: true,
  clock: true,
}

/**
 * Two-factor authentication for one service. Every method with a user id trusts its caller: the host has authenticated
 * that user, or is acting for the user.
 *
 * Functions that change or verify factors accept {@link By}: the session that calls, and who acts on behalf of the user. The
 * events that follow say so.
 *
 * A verification gives a {@link Proof} or throws a `TotpError`; none returns a boolean. All methods throw `TotpError`
 * `unavailable` when the store cannot answer, and `TypeError` when a user id is not a text of 1 to 255 characters.
 */
export interface Totp<User = unknown> {
  /** True when a second factor is on. */
  isTotpEnabled(userId: string): Promise<boolean>
  /** What a user may see of the second factor: nothing in it is secret. */
  getStatus(userId: string): Promise<Status>
  /** The statuses of many users, by id, for a list of an administrator's: a read of the store for each 500. */
  getStatuses(userIds: Iterable<string>): Promise<Map<string, Status>>

  /**
   * Call it when the first factor is right, and `switch` on the `status`: `complete` gives a proof for a session,
   * `challenge` a token for the second step, `enrollment_required` one that opens enrollment only.
   */
  startLogin(userId: string, firstFactor?: FirstFactor): Promise<LoginStart>
  /** A challenge token for a user who has passed the first factor. */
  generateChallengeToken(userId: string): Promise<string>
  /** The user whom a challenge token names. Uses nothing up. @throws TotpError `challenge_invalid` */
  verifyChallengeToken(token: string): Promise<string>
  /** As {@link Totp.verifyChallengeToken}, through `findUser`. @throws TypeError when no `findUser` was given */
  getUserFromChallengeToken(token: string): Promise<User>
  /**
   * The user whom an enrollment token of {@link Totp.startLogin} names: begin and confirm the enrollment of that user, and
   * nothing else. The proof of `confirmTotpSetup` begins the session. Uses nothing up; the token ends with the confirmation.
   *
   * @throws TotpError `unauthenticated`: altered, expired (after 15 minutes) or of another kind; the factors have changed;
   * `findUser` does not know the user any more
   */
  verifyEnrollmentToken(token: string): Promise<string>
  /**
   * The second step of a login: spends token and code together, and gives the proof to begin a session with.
   *
   * @param code - as typed: six to eight digits are a code of the app, all else is a backup code; or the kind said with it
   * @throws TotpError `challenge_invalid`, `invalid_code`, `code_already_used`, `too_many_attempts`, `second_factor_locked`
   */
  answerChallenge(token: string, code: string | TypedCode): Promise<Proof>

  /**
   * Passes when the caller proved a second factor at most `maxAgeSeconds` ago: for a route, a resolver, an action.
   *
   * @throws TotpError `unauthenticated` for nobody; `second_factor_required` for a user who has none; `step_up_required`
   *
   * @example
   * ```ts
   * const caller = await callerOf('Bearer …') // your own session or token
   * await totp.requireFresh(caller, { maxAgeSeconds: 300 })
   * ```
   */
  requireFresh(caller: Caller | Nobody, freshness: Freshness): Promise<void>
  /**
   * Passes when the caller may change factors, as the endpoints ask it: 2FA is off, or the second factor is as fresh as
   * the option `stepUp` says, or a right code comes with the call, which is spent.
   *
   * @returns the proof of that code, to raise the session with; null when none was needed
   * @throws TotpError `unauthenticated`, `step_up_required`; and whatever a code may be refused with
   *
   * @example
   * ```ts
   * const caller = await callerOf('Bearer …') // your own session or token
   * const proof = await totp.permitChange(caller, '123456') // the code that the user typed, if any
   * if (proof) console.log(`verified at ${proof.verifiedAt}: write it into the session`)
   * ```
   */
  permitChange(caller: Caller | Nobody, inputCode?: string): Promise<Proof | null>

  /** Begins an enrollment, pending until confirmed. A live authenticator goes on working. */
  createTotpSetup(user: { id: string } & SetupNames): Promise<TotpSetup>
  /**
   * Confirms it with the app's first code.
   *
   * @param session - the session that makes the change and survives it
   * @throws TotpError `invalid_code`, `totp_not_set_up`, `totp_already_enabled`, `too_many_attempts`, `second_factor_locked`
   */
  confirmTotpSetup(userId: string, code: string, session?: CallerSession): Promise<Confirmation>
  /**
   * Brings in an authenticator that the user has had elsewhere. A second import of the same secret changes nothing.
   *
   * @returns `unchanged`: the user has this secret already
   * @throws TypeError or RangeError that names what is wrong, never the secret; nothing was written
   * @throws TotpError `totp_already_enabled` when the user has `maxAuthenticators` other ones
   *
   * @example
   * ```ts
   * const outcome = await totp.importAuthenticator('42', {
   *   secret: 'jbsw y3dp ehpk 3pxp jbsw y3dp ehpk 3pxp',
   *   name: 'Phone',
   *   backupCodes: ['k3jd9-x8w2m'],
   * })
   * console.log(outcome) // imported, or unchanged
   * ```
   */
  importAuthenticator(userId: string, brought: AuthenticatorImport, by?: By): Promise<'imported' | 'unchanged'>
  /**
   * Spends a code of the app.
   *
   * @param session - `amr`: how the session began, default `['pwd']` (RFC 8176); the proof adds the second factor
   */
  verifyTotpCode(userId: string, code: string, session?: CallerSession): Promise<Proof>
  /** Disables 2FA without any check. Authorize the call yourself. @param by - `sessionId`: the session that survives */
  disableTotp(userId: string, by?: By): Promise<void>
  /** Gives a live authenticator another name. @throws TotpError `not_found` */
  renameAuthenticator(
    userId: string,
    authenticatorId: string,
    name: string,
    by?: By,
  ): Promise<Status['authenticators'][number]>
  /** Records that the user has saved the current backup codes; `getStatus` returns the time. @throws TotpError `totp_not_enabled` */
  backupCodesSaved(userId: string, by?: By): Promise<void>
  /**
   * Removes one authenticator of several.
   *
   * @param by - `sessionId`: the session that survives
   * @throws TotpError `not_found`; `validation_failed` for the last one
   */
  removeAuthenticator(userId: string, authenticatorId: string, by?: By): Promise<void>
  /** Forgets wrong codes, the hard cap included; the factors stay. For a support desk. */
  unlock(userId: string, by?: By): Promise<void>

  /** Keeps the device of a log-in; its token, or null when the factors have changed since the proof. */
  trustDevice(proof: Proof, name?: string): Promise<string | null>
  /** The user's trusted devices, the newest first. */
  listTrustedDevices(userId: string): Promise<TrustedDevice[]>
  /** Ends one trusted device. @throws TotpError `not_found` */
  removeTrustedDevice(userId: string, deviceId: string, by?: By): Promise<void>
  /** Ends all trusted devices of the user. */
  removeTrustedDevices(userId: string, by?: By): Promise<void>

  /** What a policy would do if it were switched on now. Changes nothing. @throws TypeError when no `findUser` was given */
  forecastEnforcement(
    userIds: Iterable<string> | AsyncIterable<string>,
    required: EnforcementRule<User>,
  ): Promise<EnforcementForecast>

  /** Stores codes that the host brings along, of 10 to 64 characters each, in the place of the user's codes. */
  storeBackupCodes(userId: string, codes: readonly string[], by?: By): Promise<void>
  /** Spends a backup code. @param session - as with {@link Totp.verifyTotpCode} */
  verifyBackupCode(userId: string, code: string, session?: CallerSession): Promise<Proof>
  /** New backup codes in the place of the old ones. */
  rotateBackupCodes(userId: string, by?: By): Promise<string[]>
  /**
   * The user's backup codes in clear, with the Unix seconds of their use; null: unused.
   *
   * @throws TotpError `not_found` when the option `backupCodes.storage` is `hashed`; `totp_not_set_up`, `totp_not_enabled`
   */
  listBackupCodes(userId: string, by?: By): Promise<{ code: string; usedAt: number | null }[]>

  /**
   * Tell when a password or e-mail address changed: open challenges, recovery links, trusted devices, refresh families
   * and proofs end; `sessions.ended` tells you to end yours.
   */
  credentialsChanged(userId: string, by?: By): Promise<void>

  /**
   * Deletes everything that is known of a user, whether 2FA is on or off: for a user who is deleted. What remains is one row
   * with the id, a counter and a time: without it, a token handed out before would be good for a later user of that id.
   */
  forgetUser(userId: string, by?: By): Promise<void>
  /** Deletes all expired rows. Optional: expired rows are ignored, and every insert deletes two of them. */
  deleteExpired(): Promise<void>

  /**
   * Seals a text of the host's as a Fernet token, under a key that is derived from the first encryption key for this
   * purpose only: what the host seals never opens as a stored secret.
   */
  encrypt(value: string): string
  /**
   * Opens what {@link Totp.encrypt} sealed, and a Fernet token that another program (django-totp, Python's `cryptography`)
   * sealed under one of the encryption keys. Never what totp-kit has stored for itself.
   *
   * @throws RangeError when no key opens `token`
   */
  decrypt(token: string): string

  /**
   * This service inside a transaction that the host has open on `client`: an enrollment commits with the host's own rows or
   * not at all. Same key, policy, `findUser` and listeners; nothing is asked of the database before the first call. What is
   * announced inside reaches the listeners when `COMMIT` has succeeded on `client`, whoever sends it, and never after a
   * roll-back; a refused code is told at once, since its attempt stays counted.
   *
   * `within` neither commits nor rolls back. Await each call of `inside` before you do.
   *
   * @throws TypeError when the store has no `within` (SQLite, memory), or `client` does not show the end of its transaction:
   * see {@link Totp.transaction}. RangeError when `deadlineMs` is out of range
   *
   * @example
   * ```ts
   * import { Pool } from 'pg'
   *
   * const client = await new Pool().connect()
   * await client.query('BEGIN')
   * await client.query('UPDATE users SET has_2fa = true WHERE id = $1', ['42'])
   * await totp.within(client, (inside) => inside.confirmTotpSetup('42', '123456'))
   * await client.query('COMMIT')
   * ```
   */
  within<T>(client: object, work: (inside: Totp<User>) => Promise<T>, limits?: WithinLimits): Promise<T>
  /**
   * For a transaction whose connection the host does not have in hand (Drizzle, Prisma, postgres.js): `run` opens it, and
   * calls `within` in it. What was announced reaches the listeners when the promise of `run` has resolved, so `run` must
   * return that of the whole transaction; when it rejects, nothing is told.
   *
   * @example
   * ```ts
   * declare const db: { transaction<T>(work: (tx: object) => Promise<T>): Promise<T> }
   *
   * const { backupCodesRemaining } = await totp.transaction((within) =>
   *   db.transaction((tx) => within(tx, (inside) => inside.verifyTotpCode('ann', '123456'))),
   * )
   * ```
   */
  transaction<T>(run: (within: Totp<User>['within']) => Promise<T>): Promise<T>

  /** Adds a listener for one event type, or for all with `*`; returns a function that removes it. A listener is not awaited unless you pass `awaited`; its errors are passed to `onError` only. */
  on: Listen
  /** Waits for pending emails, then closes the store. */
  close(): Promise<void>
}

/**
 * Puts the service together and checks it: the options, and that the encryption key is the one that the stored secrets
 * were sealed with, so that a wrong key stops the start and not the first login.
 *
 * @example
 * ```ts
 * import { createTotp } from 'totp-kit'
 * import { sqliteStore } from 'totp-kit/store/sqlite'
 *
 * const totp = await createTotp({
 *   issuer: 'Acme',
 *   encryptionKey: process.env.TOTP_ENCRYPTION_KEY,
 *   store: await sqliteStore('app.db'),
 * })
 * ```
 *
 * @throws TypeError or RangeError for an option; Error when the key does not fit the store, or its tables are missing or of
 * another version
 */
export async function createTotp<User = unknown>(options: TotpOptions<User>): Promise<Totp<User>> {
  checkOptions(options, TOTP_OPTIONS)
  const policy = resolvePolicy(options)
  const keyring = createKeyring(readEncryptionKeys(options.encryptionKey))
  const values = hostValues(keyring)
  const onError = neverFailing(options.onError ?? warn)
  const { on, announce } = createAnnouncer(onError)
  const clock = options.clock ?? systemClock
  const { afterResponse, drain } = backgroundTasks(randomBytes, onError)
  const { enforcement } = options
  if (enforcement && !options.findUser) throw new TypeError('enforcement requires the findUser option')
  if (enforcement && [enforcement.required, enforcement.accountName].some((given) => typeof given !== 'function')) {
    throw new TypeError('enforcement.required and enforcement.accountName must be functions')
  }
  await checkEncryptionKey(options.store, keyring, clock())
  const { issuer } = policy
  const sealer = (kind: string, ttlSeconds: number) => tokenSealer(keyring, { kind, issuer }, ttlSeconds)
  const store = failClosed(options.store, onError)
  const ctx: Context = {
    service: {},
    policy,
    store,
    clock,
    random: randomBytes,
    keyring,
    challengeTokens: sealer('challenge', longestChallengeSeconds(policy.challengeTokenSeconds)),
    enrollmentTokens: sealer('enrollment', policy.pendingEnrollmentSeconds),
    trustedDeviceTokens: sealer('trusted-device', policy.trustedDevices?.seconds ?? 0),
    backupCodeKeys: keyring.deriveMacKeys('backup-code'),
    announce,
    throttle: policy.rateLimitStorage === 'store' ? storeThrottle(store) : memoryThrottle(),
    findUser: options.findUser,
    enforcement: enforcement as Enforcement | undefined,
    afterResponse,
    onError,
  }
  const serviceOn = (ctx: Context): Totp<User> => {
    /** For a call whose last argument says who makes it. @throws TypeError for an unknown name; as {@link causedBy} */
    const calledBy = (by: By = {}): Context => {
      checkOptions(by, BY_NAMES)
      return causedBy(ctx, by)
    }
    const verify = async (userId: string, typed: TypedCode, session: CallerSession = {}) => {
      const question = { userId, challenge: null, firstFactor: firstFactorOf(session) }
      return proveCode(causedBy(ctx, session), typed, question, clock())
    }
    const totp: Totp<User> = {
      isTotpEnabled: (userId) => isTotpEnabled(ctx, userId),
      getStatus: (userId) => getStatus(ctx, userId, clock()),
      getStatuses: (userIds) => getStatuses(ctx, userIds, clock()),
      forgetUser: async (userId, by) => forgetUser(calledBy(by), userId, clock()),
      deleteExpired: () => deleteExpired(ctx, clock()),
      startLogin: (userId, firstFactor = {}) => startLogin(ctx, userId, firstFactor, clock()),
      generateChallengeToken: (userId) => generateChallengeToken(ctx, userId, clock()),
      verifyChallengeToken: (token) => verifyChallengeToken(ctx, token, clock()),
      getUserFromChallengeToken: (token) => getUserFromChallengeToken(ctx, token, clock()) as Promise<User>,
      verifyEnrollmentToken: (token) => verifyEnrollmentToken(ctx, token, clock()),
      answerChallenge: (token, code) => answerChallenge(ctx, token, code, clock()),
      createTotpSetup: async ({ id, ...names }) =>
        createTotpSetup(causedBy(ctx, names), await grantHost(ctx, id), names, clock()),
      async confirmTotpSetup(userId, code, session = {}) {
        const { sessionId = null } = session
        const confirmation = { userId, code, sessionId, firstFactor: firstFactorOf(session) }
        return confirmTotpSetup(causedBy(ctx, session), confirmation, clock())
      },
      requireFresh: async (caller, freshness) => requireFresh(causedBy(ctx, caller || {}), caller, freshness, clock()),
      permitChange: async (caller, inputCode) =>
        (await grantStepUp(causedBy(ctx, caller || {}), caller, inputCode, clock())).proof,
      importAuthenticator: async (userId, brought, by) => importAuthenticator(calledBy(by), userId, brought, clock()),
      verifyTotpCode: (userId, code, session) => verify(userId, { method: 'totp', code }, session),
      disableTotp: async (userId, by = {}) =>
        disableTotp(calledBy(by), await grantHost(ctx, userId), by.sessionId ?? null, clock()),
      async removeAuthenticator(userId, authenticatorId, by = {}) {
        const removal = { authenticatorId, keepFamilyId: by.sessionId ?? null }
        return removeAuthenticator(calledBy(by), await grantHost(ctx, userId), removal, clock())
      },
      renameAuthenticator: async (userId, authenticatorId, newName, by) =>
        renameAuthenticator(calledBy(by), userId, { authenticatorId, newName }, clock()),
      backupCodesSaved: async (userId, by) => backupCodesSaved(calledBy(by), userId, clock()),
      unlock: async (userId, by) => unlock(calledBy(by), userId, clock()),
      trustDevice: (proof, name) => trustDevice(ctx, proof, name ?? null, clock()),
      listTrustedDevices: (userId) => listTrustedDevices(ctx, userId, clock()),
      removeTrustedDevices: async (userId, by) =>
        removeTrustedDevices(calledBy(by), await grantHost(ctx, userId), clock()),
      removeTrustedDevice: async (userId, deviceId, by) =>
        removeTrustedDevice(calledBy(by), await grantHost(ctx, userId), deviceId, clock()),
      forecastEnforcement: (userIds, required) =>
        forecastEnforcement(ctx, userIds, required as EnforcementRule, clock()),
      storeBackupCodes: async (userId, codes, by) =>
        storeBackupCodes(calledBy(by), await grantHost(ctx, userId), codes, clock()),
      verifyBackupCode: (userId, code, session) => verify(userId, { method: 'backup_code', code }, session),
      rotateBackupCodes: async (userId, by) => rotateBackupCodes(calledBy(by), await grantHost(ctx, userId), clock()),
      listBackupCodes: async (userId, by) => listBackupCodes(calledBy(by), await grantHost(ctx, userId), clock()),
      credentialsChanged: async (userId, by) => credentialsChanged(calledBy(by), userId, clock()),
      encrypt: (value) => values.seal(value, clock()),
      decrypt(token) {
        const opened = values.open(token)
        if (opened === null) throw new RangeError('no encryption key can decrypt this token')
        return opened
      },
      within: async (client, work, limits = {}) => work(serviceOn(contextWithin(ctx, options.store, client, limits))),
      async transaction(run) {
        const held: TotpEvent[] = []
        const result = await run(async (client, work, limits) =>
          work(serviceOn(contextHolding(ctx, options.store, client, { ...limits, held }))),
        )
        await tellAll(ctx.announce, held)
        return result
      },
      on,
      async close() {
        await drain()
        await options.store.close()
      },
    }
    registerContext(totp, ctx)
    return totp
  }
  return serviceOn(ctx)
}

/** A value sealed when the store was new: a key that does not open it would open no secret either. */
async function checkEncryptionKey(store: TotpStore, keyring: Keyring, now: number): Promise<void> {
  const label = { purpose: 'canary', owner: '' } as const
  const kept = await store.keepKeyCheck(sealValue(keyring, label, 'canary', now)).catch((cause) => {
    // PostgreSQL: undefined_table; MySQL and MariaDB: ER_NO_SUCH_TABLE; SQLite has no code for it.
    const isMissing = cause?.code === '42P01' || cause?.errno === 1146 || /\bno such table\b/.test(cause?.message)
    if (!isMissing) throw cause
    throw new Error('the tables of totp-kit are missing: call store.migrate(), or run totp-kit migrate', { cause })
  })
  if (openValue(keyring, label, kept) === null) {
    throw new Error('encryptionKey does not match this store: stored secrets cannot be decrypted')
  }
}

/** A logger that is down fails no request, and does not end the process. */
function neverFailing(listener: (error: unknown) => unknown): (error: unknown) => void {
  return (error) => {
    const heard = async () => listener(error)
    heard().catch(warn)
  }
}

function warn(error: unknown): void {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error
  process.stderr.write(`totp-kit: ${cause instanceof Error ? `${cause.name}: ${cause.message}` : 'unknown error'}\n`)
}
