import assert from 'node:assert/strict'
import type { Totp } from 'totp-kit'
import { authenticatorFor } from 'totp-kit/testing'

/** What a case knows of its recipe. */
export interface Recipe {
  /** Makes the tables, totp-kit's and `protected_account`, the way the recipe says. */
  migrate(): Promise<unknown>
  /** Asked for after `migrate`: the program looks at the tables when it starts. */
  twoFactor(): Promise<{ totp: Totp; confirm(userId: string, code: string): Promise<string[] | null> }>
  /** A query of the ORM's: the ids in `protected_account`. */
  protectedAccounts(): Promise<string[]>
  addAccount(userId: string): Promise<unknown>
  removeAccount(userId: string): Promise<unknown>
  /** How many connections the one pool has, and how many the server has to this database. */
  connections(): Promise<{ ofThePool: number; ofTheServer: number }>
  close(): Promise<unknown>
}

/** Enough at once that each of two pools would open connections. */
const AT_ONCE = 20

export async function prove(recipe: Recipe): Promise<void> {
  try {
    await recipe.migrate()
    const { totp, confirm } = await recipe.twoFactor()
    await anEnrollmentCommits(recipe, totp, confirm)
    await anEnrollmentIsRolledBack(recipe, totp, confirm)
    await thereIsOnePool(recipe, totp)
  } finally {
    await recipe.close()
  }
}

type Confirm = (userId: string, code: string) => Promise<string[] | null>

async function begin(totp: Totp, userId: string) {
  const { uri } = await totp.createTotpSetup({ id: userId, accountName: userId })
  const now = Math.floor(Date.now() / 1000)
  const phone = authenticatorFor(uri)
  return { code: phone.codeAt(now), nextCode: phone.codeAt(now + 30) }
}

async function anEnrollmentCommits({ protectedAccounts }: Recipe, totp: Totp, confirm: Confirm): Promise<void> {
  const { code, nextCode } = await begin(totp, 'ann')

  assert.equal((await confirm('ann', code))?.length, 10)

  assert.equal(await totp.isTotpEnabled('ann'), true)
  assert.deepEqual(await protectedAccounts(), ['ann'])
  await assert.rejects(totp.verifyTotpCode('ann', code), { code: 'code_already_used' })
  assert.equal((await totp.verifyTotpCode('ann', nextCode)).userId, 'ann')
}

/** The host's row fails after the confirmation, because it is there already. */
async function anEnrollmentIsRolledBack(recipe: Recipe, totp: Totp, confirm: Confirm): Promise<void> {
  const { code } = await begin(totp, 'bob')
  await recipe.addAccount('bob')

  await assert.rejects(confirm('bob', code), (error) => (error as Error).constructor.name !== 'TotpError')

  const { authenticators, backupCodesRemaining, pending } = await totp.getStatus('bob')
  assert.deepEqual([authenticators, backupCodesRemaining, pending !== null], [[], 0, true])
  assert.equal(await totp.isTotpEnabled('bob'), false)
  await recipe.removeAccount('bob')
  assert.equal((await confirm('bob', code))?.length, 10)
  assert.deepEqual(await recipe.protectedAccounts(), ['ann', 'bob'])
}

async function thereIsOnePool(recipe: Recipe, totp: Totp): Promise<void> {
  const asked = Array.from({ length: AT_ONCE }, () => [recipe.protectedAccounts(), totp.isTotpEnabled('ann')])
  await Promise.all(asked.flat())

  const { ofThePool, ofTheServer } = await recipe.connections()

  assert.equal(ofTheServer, ofThePool)
  assert.ok(ofThePool > 1)
}
