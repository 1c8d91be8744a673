import type { UnixSeconds } from '../clock.ts'
import { backupCodeDigests } from '../crypto/digest.ts'
import { openValue, sealValue } from '../crypto/sealed-value.ts'
import { TotpError } from '../errors.ts'
import { BACKUP_CODE_BYTES, formatBackupCode, readBackupCode } from '../otp/backup-code.ts'
import type { BackupCodeRecord } from '../store/store.ts'
import { type Context, checkUserId } from './context.ts'
import { notEnabled } from './proof.ts'
import { type Grant, outdatedGrant } from './step-up.ts'

/** Codes shorter than this could be guessed, or taken for a code of the app. */
const SHORTEST_FOREIGN_CODE = 10
/** What the fields of the endpoints take (`contract/fields.ts`), as it is typed: a longer code could not be used. */
const LONGEST_FOREIGN_CODE = 64

/** A new set of backup codes, as people see them. */
export function newBackupCodes(ctx: Context): string[] {
  return Array.from({ length: ctx.policy.backupCodes.count }, () => formatBackupCode(ctx.random(BACKUP_CODE_BYTES)))
}

/** The codes as the store keeps them. */
export function sealBackupCodes(
  ctx: Context,
  userId: string,
  codes: readonly string[],
  now: UnixSeconds,
): BackupCodeRecord[] {
  return codes.map((code) => {
    const [digest] = backupCodeDigests(ctx.backupCodeKeys, userId, readBackupCode(code)) as [string]
    const label = { purpose: 'backup-code', owner: userId } as const
    const sealedCode = ctx.policy.backupCodes.storage === 'hashed' ? null : sealValue(ctx.keyring, label, code, now)
    return { digest, sealedCode }
  })
}

/**
 * Puts a new set of codes in the place of the old one, used and unused.
 *
 * @throws TotpError `totp_not_set_up`, `totp_not_enabled`, `step_up_required`, `unavailable`
 */
export async function rotateBackupCodes(ctx: Context, grant: Grant): Promise<string[]> {
  const codes = newBackupCodes(ctx)
  await replaceBackupCodes(ctx, grant, codes)
  return codes
}

/**
 * Stores codes that the host brings along, in the place of the user's codes.
 *
 * @throws RangeError when a code is shorter than 10 characters without spaces and hyphens, or longer than 64 with them,
 * or two are the same
 * @throws TotpError as {@link rotateBackupCodes}
 */
export async function storeBackupCodes(ctx: Context, grant: Grant, codes: readonly string[]): Promise<void> {
  const read = codes.map(readBackupCode)
  if (read.some((code) => code.length < SHORTEST_FOREIGN_CODE)) {
    throw new RangeError(
      `a backup code has at least ${SHORTEST_FOREIGN_CODE} characters, spaces and hyphens not counted`,
    )
  }
  if (codes.some((code) => code.length > LONGEST_FOREIGN_CODE)) {
    throw new RangeError(`a backup code has at most ${LONGEST_FOREIGN_CODE} characters`)
  }
  if (new Set(read).size !== read.length) throw new RangeError('two backup codes are the same')
  await replaceBackupCodes(ctx, grant, codes)
}

async function replaceBackupCodes(ctx: Context, { userId, user }: Grant, codes: readonly string[]): Promise<void> {
  const now = ctx.clock()
  if (user.confirmedAt === null) throw await notEnabled(ctx, userId)
  const sealed = sealBackupCodes(ctx, userId, codes, now)
  if (!(await ctx.store.replaceBackupCodes(userId, sealed, user.generation))) throw await outdatedGrant(ctx, userId)
  await ctx.announce({ type: 'backup_codes.rotated', userId, at: now })
}

/**
 * The user's codes for viewing again, in the order in which they were handed out. `usedAt` null: unused.
 *
 * @throws TotpError `not_found` when the codes are kept hashed; `totp_not_set_up`, `totp_not_enabled`, `unavailable`
 */
export async function listBackupCodes(
  ctx: Context,
  { userId, user }: Grant,
): Promise<{ code: string; usedAt: UnixSeconds | null }[]> {
  checkUserId(userId)
  if (user.confirmedAt === null) throw await notEnabled(ctx, userId)
  const records = await ctx.store.listBackupCodes(userId)
  const codes: { code: string; usedAt: UnixSeconds | null }[] = []
  for (const { sealedCode, usedAt } of records) {
    if (sealedCode === null || ctx.policy.backupCodes.storage === 'hashed') throw new TotpError('not_found')
    const code = openValue(ctx.keyring, { purpose: 'backup-code', owner: userId }, sealedCode)
    if (code === null) {
      await ctx.announce({ type: 'secret.unreadable', userId, at: ctx.clock() })
      throw new TotpError('unavailable', { cause: new Error('a stored backup code does not open with any key') })
    }
    codes.push({ code, usedAt })
  }
  await ctx.announce({ type: 'backup_codes.viewed', userId, at: ctx.clock() })
  return codes
}
