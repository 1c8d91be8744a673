import type { UnixSeconds } from '../clock.ts'
import type { SecondFactorMethod } from '../events.ts'
import type { TotpParameters } from '../otp/totp.ts'
import type { FailureLimits } from '../policy.ts'

/** A user as the store knows one. A user never heard of has generation 0 and no second factor. */
export interface UserRecord {
  /** Counts the changes of the user's factors and credentials. Never falls, outlives the factors. */
  generation: number
  /**
   * The first second from which a proof counts: later than when the generation last rose, and than every proof that
   * was given before. 0: it never rose.
   */
  changedAt: UnixSeconds
  /** When 2FA was switched on; null: it is off. A fact of its own, not the presence of codes. */
  confirmedAt: UnixSeconds | null
}

/** An authenticator app's enrollment. Secrets arrive and leave sealed. */
export interface AuthenticatorRecord {
  /** A random id of 128 bits. */
  id: string
  /** The name that the user gave; null: none. */
  name: string | null
  /** The secret, encrypted. */
  sealedSecret: string
  /** How its codes are made. */
  parameters: TotpParameters
  /** When its enrollment began. */
  createdAt: UnixSeconds
  /** When its last code was accepted; null: never. */
  lastUsedAt: UnixSeconds | null
  /** How many time steps the app's clock was ahead of ours at the last right code; negative: behind. */
  driftSteps: number
  /** The step of a code that was right but too far from now: the next one in a row resynchronizes. Null: none. */
  resyncStep: number | null
}

/** An enrollment that waits for its first code. One per user; never overwrites a live authenticator. */
export interface PendingAuthenticator extends Omit<AuthenticatorRecord, 'lastUsedAt' | 'driftSteps' | 'resyncStep'> {
  /** The last second in which it can be confirmed. */
  expiresAt: UnixSeconds
  /** Of the session that began it, which alone may see the secret again; null: none may. */
  sessionDigest: string | null
}

/** A backup code at rest: found by its digest; `sealedCode` is null where codes are kept hashed. */
export interface BackupCodeRecord {
  /** The keyed digest, by which the code is found. */
  digest: string
  /** The code, encrypted; null where only digests are stored. */
  sealedCode: string | null
}

/** A token that dies with the success it leads to. */
export interface SingleUse {
  /** A random id of 128 bits. */
  tokenId: string
  /** The user's generation when the token was made; the token is stale when it has moved on. */
  generation: number
  /** The last second of the token. After it the token is stale by itself, and its burnt mark may be forgotten. */
  expiresAt: UnixSeconds
}

/** What failures are counted by: each has a budget of its own. */
export type FailureKind = SecondFactorMethod | 'recovery_password'

/** One try with a code, or with the password of a recovery: what it may be judged by is read first. */
export interface Attempt {
  /** Whose attempt it is. */
  userId: string
  /** What the attempt is counted by. */
  method: FailureKind
  /** `live`: a code for the second factor that is on. `pending`: the first code of an enrollment. */
  against: 'live' | 'pending'
  /** The token that a success consumes; null: none. */
  token: SingleUse | null
  /** The verifier's clock. */
  now: UnixSeconds
  /** The limits that decide whether it is judged. */
  limits: FailureLimits
}

/** Why no attempt of this kind is admitted. */
export type Blocked =
  /** The growing delay, or the limit of the period. */
  | {
      outcome: 'delayed'
      /** When the next attempt is admitted. */
      retryAt: UnixSeconds
    }
  /** Too many failures in a row: time does not help. */
  | { outcome: 'locked' }

/** The token was consumed or has expired, or the user's generation is another. */
export type Stale = {
  /** Nothing was written. */
  outcome: 'stale'
}

/** What an attempt is judged by, or why it must not be judged. */
export type Factors =
  | {
      outcome: 'open'
      /** The user as of the same moment. */
      user: UserRecord
      /** All live ones, the oldest first; or the one that is pending. Never none. */
      authenticators: readonly AuthenticatorRecord[]
    }
  | Blocked
  | Stale
  /** The user has no authenticator of the wanted kind. */
  | { outcome: 'absent' }

/** A judged attempt, to be admitted and written down in one step. */
export type Settlement = {
  /** Whose attempt it is. */
  userId: string
  /** The token that a success consumes; null: none. */
  token: SingleUse | null
  /** The generation that the attempt was judged under. */
  generation: number
  /** The refresh token family that begins with a success; null: none. */
  family: RefreshFamily | null
  /** The verifier's clock. */
  now: UnixSeconds
  /** The limits that decide whether it is admitted. */
  limits: FailureLimits
} & (
  | {
      method: 'totp'
      /** The time step of the code; null: the code is wrong. */
      match: StepMatch | null
      /** An earlier settlement has counted this attempt as a failure, and a success takes that failure back. */
      isCounted: boolean
    }
  /** Right where the user has an unused backup code with one of the digests. */
  | {
      method: 'backup_code'
      /** The digests of the code, one for each key. */
      digests: readonly string[]
    }
  /** A wrong password. A right one is settled by {@link TotpStore.removeFactors}. */
  | { method: 'recovery_password' }
)

/** The time step that a TOTP code belongs to. */
export interface StepMatch {
  /** The authenticator that showed the code. */
  authenticatorId: string
  /** The time step of the code: it and every earlier one are spent by a success. */
  step: number
  /** How many time steps the clock of the authenticator is ahead; negative: behind. */
  driftSteps: number
}

/** How an attempt was settled: only this may be told. */
export type Settled =
  /** A success. */
  | {
      outcome: 'spent'
      /** The unused backup codes after it; null where no backup code was spent. */
      backupCodesRemaining: number | null
    }
  /** A failure, counted. */
  | {
      outcome: 'wrong'
      /** What is left after it. */
      budget: FailureBudget
    }
  /** The code is right, and its step or a later one was spent before. No guess: nothing was counted. */
  | {
      outcome: 'spent_before'
      /** What is left. */
      budget: FailureBudget
    }
  | Blocked
  | Stale

/** A line of refresh tokens that begins with one login. */
export interface RefreshFamily {
  /** A random id of 128 bits: the session. */
  id: string
  /** Whose login it is. */
  userId: string
  /** The one refresh token of the family that is alive. */
  tokenId: string
  /** The last second of its refresh token. */
  expiresAt: UnixSeconds
}

/** A device on which the second factor is not asked for again until `expiresAt`. */
export interface TrustedDeviceRecord {
  /** A random id of 128 bits. */
  id: string
  /** Whose device it is. */
  userId: string
  /** The name that was given to it; null: none. */
  name: string | null
  /** Of the one token of the device that is alive. */
  tokenDigest: string
  /** When it was first trusted. */
  createdAt: UnixSeconds
  /** When it last replaced a code. */
  lastUsedAt: UnixSeconds
  /** Until when it is trusted. */
  expiresAt: UnixSeconds
}

/** What is left of a user's failure budget of one kind. */
export interface FailureBudget {
  /** Failures since the last success. */
  consecutive: number
  /** Further failures that are judged before one has to wait; 0 while one has to. */
  attemptsLeft: number
  /** Refused until then; null: not refused; `forever`: the hard cap is reached. */
  lockedUntil: UnixSeconds | 'forever' | null
}

/** What the user sees of the second factor. */
export interface FactorStatus {
  /** The user; one that was never seen has generation 0. */
  user: UserRecord
  /** The live ones, the oldest first. */
  authenticators: AuthenticatorRecord[]
  /** Unused backup codes. */
  backupCodesRemaining: number
  /** When the user said that the current backup codes are kept; null: not yet. */
  backupCodesSavedAt: UnixSeconds | null
  /** An enrollment waits for its first code until then; null: none does, or it has expired. */
  pendingUntil: UnixSeconds | null
  /** Alive ones. */
  trustedDevices: number
  /** App codes are refused until then; null: they are not; `forever`: the hard cap is reached. */
  lockedUntil: UnixSeconds | 'forever' | null
}

/**
 * The memory of the library, in the domain's words. Each operation is atomic: it happens whole or not at all, and where
 * a sentence says "exactly one", that holds for any number of callers, connections and processes at once. Those
 * sentences are the cases of `testing/store-cases.ts`. A store sees sealed and digested values only, decides nothing,
 * and throws when it cannot answer; it never answers "no rows" for "no connection".
 */
export interface TotpStore {
  /** The user; one that was never seen has generation 0 and no second factor. */
  getUser(userId: string): Promise<UserRecord>

  /** Everything that a status shows of the user, as of one moment. */
  getStatus(userId: string, now: UnixSeconds, limits: FailureLimits): Promise<FactorStatus>

  /** What {@link getStatus} says of each, in the order of `userIds`, all of one moment. Up to 500 users. */
  getStatuses(userIds: readonly string[], now: UnixSeconds, limits: FailureLimits): Promise<FactorStatus[]>

  /** What is left of the budget. Reads only: {@link settleAttempt} decides. */
  getFailureBudget(userId: string, method: FailureKind, now: UnixSeconds, limits: FailureLimits): Promise<FailureBudget>

  /**
   * What an attempt is judged by, and whether it may be judged at all, all of one moment. Reads only: an attempt counts for
   * nothing until {@link settleAttempt} has admitted it, so its verdict must not be told before.
   */
  readFactors(attempt: Attempt): Promise<Factors>

  /**
   * Admits a judged attempt against the failure budget of its method (`failure-budget.ts`), and writes down what follows from
   * the verdict, in one step. Of any number of attempts at once, no more failures are admitted than `limits` allows, in order
   * of arrival, and a right code is admitted no sooner than a wrong one in its place would be.
   *
   * A success marks the time step and every earlier one of the authenticator as spent (RFC 6238 §5.2), or the backup code as
   * used; consumes the token; ends the row of failures and its delay; begins the family. All of it or nothing. Exactly one
   * caller gets `spent` for a step, for a backup code, for a token. Nothing is written when the outcome is `spent_before`,
   * `delayed`, `locked` or `stale`.
   *
   * A failure counts outside any transaction of the host, whose roll-back must not give guesses back (Vikunja,
   * CVE-2026-35597).
   */
  settleAttempt(settlement: Settlement): Promise<Settled>

  /** Forgets all failures of the user: consecutive ones, delays, the hard cap and the total. */
  clearFailures(userId: string): Promise<void>

  /**
   * Remembers the step of a code that was right but too far from now, of a live or the pending authenticator. Of
   * several the latest is remembered: an earlier one must not make room for it to be good when its time comes.
   * Spending it or a later step of that authenticator forgets it.
   */
  noteResyncStep(userId: string, authenticatorId: string, step: number): Promise<void>

  /**
   * Puts a pending authenticator in the place of an earlier pending one; a live one is untouched. Where 2FA is off,
   * a hard cap that wrong first codes have reached goes: they were codes of a secret that is gone, and nobody must be
   * kept from enrolling for ever. Below it nothing is forgotten, and delay and total stay.
   * False, and nothing done, when the user's generation is not `generation` any more.
   */
  putPending(userId: string, pending: PendingAuthenticator, generation: number, limits: FailureLimits): Promise<boolean>

  /** The enrollment that waits for its first code; null: none, or it has expired. */
  getPending(userId: string, now: UnixSeconds): Promise<PendingAuthenticator | null>

  /**
   * Makes the pending authenticator `authenticatorId` a live one with `step` spent. Where `maxAuthenticators` are live
   * already, it takes the place of the one that was used least lately; there is no moment without a working factor.
   * Switches 2FA on; raises the generation; of the refresh families only `keepFamilyId` survives. `backupCodes` replace the
   * stored ones, null leaves those. Admits the right code against the budget of TOTP codes as {@link settleAttempt} does.
   * Exactly one caller gets `first`, `added` or `replaced` for a pending authenticator.
   *
   * @returns `first`: 2FA was off; `added`: beside a live one; `replaced`: in the place of one. `refused`: it is gone,
   * replaced or expired, or the generation is not `generation` any more. Nothing was done then, nor when it is blocked
   */
  activatePending(activation: {
    userId: string
    authenticatorId: string
    step: number
    driftSteps: number
    maxAuthenticators: number
    generation: number
    backupCodes: readonly BackupCodeRecord[] | null
    keepFamilyId: string | null
    /** An earlier settlement has counted this attempt as a failure, which is taken back. */
    isCounted: boolean
    now: UnixSeconds
    limits: FailureLimits
  }): Promise<{ outcome: 'first' | 'added' | 'replaced' | 'refused' } | Blocked>

  /**
   * Puts a live authenticator beside those that there are, fewer than `maxAuthenticators`, with `lastStep` and all earlier
   * ones spent. Raises the generation; no refresh family survives. Where 2FA was off, switches it on as of the
   * authenticator's `createdAt`, and puts `backupCodes` in the place of the stored ones, where they are not null. Of any
   * number at once under one generation, exactly one is put.
   *
   * @returns `first`: 2FA was off; `added`: beside a live one; `full`, or `stale` (the generation is not `generation` any
   * more): nothing was done
   */
  importAuthenticator(brought: {
    userId: string
    authenticator: Omit<AuthenticatorRecord, 'driftSteps' | 'resyncStep'>
    lastStep: number
    maxAuthenticators: number
    generation: number
    backupCodes: readonly BackupCodeRecord[] | null
    now: UnixSeconds
  }): Promise<'first' | 'added' | 'full' | 'stale'>

  /** Gives a live authenticator another name. @returns it as it is then; null when the user has none by that id */
  renameAuthenticator(userId: string, authenticatorId: string, name: string): Promise<AuthenticatorRecord | null>

  /**
   * Removes one live authenticator, never the last one, however many removals race. Raises the generation; of the
   * refresh families only `keepFamilyId` survives.
   *
   * @returns `last`, `absent`, `stale` (the generation is not `generation` any more): nothing was done
   */
  removeAuthenticator(removal: {
    userId: string
    authenticatorId: string
    generation: number
    keepFamilyId: string | null
    now: UnixSeconds
  }): Promise<'removed' | 'last' | 'absent' | 'stale'>

  /**
   * Removes authenticators, pending ones included, and backup codes; switches 2FA off; raises the generation; clears
   * the consecutive failures and their delay; of the refresh families only `keepFamilyId` survives. Where 2FA is off,
   * only the pending authenticator goes, and a hard cap that wrong first codes have reached: nobody must be kept from
   * enrolling for ever.
   *
   * With `token`, a recovery link, the password was right: it is admitted against the budget of recovery passwords as
   * {@link settleAttempt} does, and the token is consumed.
   *
   * @returns `stale`: the generation is not `generation` any more, or `token` was consumed or has expired. Nothing was done
   * then, nor when it is blocked
   */
  removeFactors(removal: {
    userId: string
    generation: number
    token: SingleUse | null
    keepFamilyId: string | null
    now: UnixSeconds
    limits: FailureLimits
  }): Promise<{ outcome: 'removed' } | Blocked | Stale>

  /**
   * Puts `codes` in the place of the user's backup codes, used and unused.
   * False, and nothing done, when 2FA is off or the generation is not `generation` any more.
   */
  replaceBackupCodes(userId: string, codes: readonly BackupCodeRecord[], generation: number): Promise<boolean>

  /**
   * Notes that the user has kept the current backup codes. Other codes, or none, forget it. Does nothing where 2FA is
   * off.
   */
  noteBackupCodesSaved(userId: string, now: UnixSeconds): Promise<void>

  /** The user's backup codes in the order in which they were stored. `usedAt` null: unused. */
  listBackupCodes(userId: string): Promise<{ sealedCode: string | null; usedAt: UnixSeconds | null }[]>

  /**
   * Ends all open challenges, recovery links, trusted devices and refresh families of the user, all earlier proofs, and an
   * enrollment that waits for its first code. Forgets the consecutive failures of recovery passwords, and their delay: the
   * password that was guessed at is gone. Their total stays.
   *
   * @param options - `isPasswordSame`: the guesses were at the password that still holds, so their failures stay
   */
  raiseGeneration(userId: string, now: UnixSeconds, options?: { isPasswordSame: boolean }): Promise<void>

  /**
   * Deletes everything of the user: authenticators, a pending one, backup codes, failures, refresh families, trusted
   * devices. The generation rises and stays, so that nothing handed out before is good for a later user of that id.
   */
  forgetUser(userId: string, now: UnixSeconds): Promise<void>

  /** False when `tokenId` was consumed. Reads only. */
  isTokenUnused(tokenId: string): Promise<boolean>

  /** Burns a token that leads to nothing any more. True for exactly one caller per `tokenId`, for none once it has expired. */
  consumeToken(token: Pick<SingleUse, 'tokenId' | 'expiresAt'>, now: UnixSeconds): Promise<boolean>

  /** Keeps a device. False, and nothing done, when the user's generation is not `generation` any more. */
  keepTrustedDevice(device: TrustedDeviceRecord, generation: number): Promise<boolean>

  /**
   * Puts `newTokenDigest` in the place of `tokenDigest` as the device's living token. Exactly one caller gets `rotated`
   * for a `tokenDigest`. One that is not the living token's ends the device: somebody has a copy. `dead` too when the
   * device is gone or has expired, or the user's generation is not `generation` any more.
   */
  rotateTrustedDevice(rotation: {
    userId: string
    deviceId: string
    tokenDigest: string
    newTokenDigest: string
    generation: number
    now: UnixSeconds
  }): Promise<'rotated' | 'dead'>

  /** The user's living devices, the newest first. */
  listTrustedDevices(userId: string, now: UnixSeconds): Promise<TrustedDeviceRecord[]>

  /** Ends a device. False when the user has none by that id. */
  endTrustedDevice(userId: string, deviceId: string): Promise<boolean>

  /** Ends all devices of the user. @returns how many there were */
  endTrustedDevices(userId: string): Promise<number>

  /** Begins a family under `generation`; it is dead from the start when the generation has moved on. */
  openFamily(family: RefreshFamily, generation: number, now: UnixSeconds): Promise<void>

  /**
   * Makes `newTokenId` the family's living token in the place of `tokenId`. Exactly one caller gets `rotated` for a
   * `tokenId`. One that is not the living token ends the family, so that thief and owner both have to log in again
   * (RFC 9700 §4.14.2). `dead` too when the family has ended or expired or the user's generation has moved on.
   */
  rotateFamily(rotation: {
    familyId: string
    tokenId: string
    newTokenId: string
    expiresAt: UnixSeconds
    now: UnixSeconds
  }): Promise<'rotated' | 'dead'>

  /**
   * Makes `newTokenId` the living token of a family whose session has proved a second factor, whatever was living before.
   * False, and nothing done, when the family has ended or expired, belongs to another user, or the user's generation is
   * not `generation`.
   */
  raiseFamily(raising: {
    familyId: string
    userId: string
    newTokenId: string
    expiresAt: UnixSeconds
    generation: number
    now: UnixSeconds
  }): Promise<boolean>

  /** True while the family is alive and, when `tokenId` is given, that token is its living one. Changes nothing. */
  isFamilyAlive(familyId: string, tokenId: string | null, now: UnixSeconds): Promise<boolean>

  /** Ends the family; nothing happens when it has ended before. */
  endFamily(familyId: string): Promise<void>

  /**
   * Keeps `sealed` as the canary unless there is one, and gives back the one that is kept. Of many processes that start
   * on an empty store, all get the same.
   *
   * @throws Error that says in words what to do, when the tables are not those of this version
   */
  keepKeyCheck(sealed: string): Promise<string>

  /**
   * Counts one call under a key in windows that begin with its first call, for a throttle that all processes share.
   * No call is lost of any number at once. A window that has ended begins anew, and so does one that a clock set back
   * would keep open for longer than `windowSeconds`.
   */
  countCall(call: { keyDigest: string; windowSeconds: number; now: UnixSeconds }): Promise<{
    /** In this window, this one included. */
    calls: number
    endsAt: UnixSeconds
  }>

  /**
   * Deletes all expired rows: pending enrollments, used tokens, refresh token families, trusted devices, rate-limit windows.
   * Optional: expired rows are ignored, and every insert deletes two of them.
   */
  deleteExpired(now: UnixSeconds): Promise<void>

  /**
   * Brings the tables up to date. Safe when any number of processes do it at once; does nothing when they are. Tables that
   * another tool made, which have no version, stay as they are.
   *
   * @throws Error that says in words what to do, when the tables are of a later version, or another tool made them and
   * they lack a column; nothing was changed
   */
  migrate(): Promise<void>

  /** Lets go of what the store opened by itself; a connection that the host passed in stays open. */
  close(): Promise<void>
}
