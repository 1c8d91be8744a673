import { expect } from 'vitest'
import type { Service } from '../harness.ts'
import { oneOfEachKind, type Path, type Use } from './paths.ts'

/** What a rule was found to do on a path: it holds, or there is nothing for it to hold, and why. */
export type Finding = 'holds' | { reason: string }

export interface Rule {
  name: string
  /** What must be true on every path. */
  sentence: string
  check(path: Path, cell: Cell): Promise<Finding>
}

/** Where a rule is tried: a service of its own, and another process of it whose database work is rolled back. */
export interface Cell {
  service: Service
  /** Runs `work` against the same users and tables within a transaction that is rolled back; null: there is none. */
  rolledBack: ((work: (inside: Service) => Promise<void>) => Promise<void>) | null
}

const REFUSED = /^4\d\d |^asked for a code$/

function expectRefused(outcome: string, path: Path, why?: string): void {
  expect(outcome, why).toMatch(REFUSED)
  expect(outcome, why).not.toBe(path.good)
}

const guessed = { reason: 'a token of 128 random bits is not guessed; calls are counted per address' }
const notUsedUp = { reason: 'good until it expires' }
const isCode = ({ takes }: Path) => takes !== 'token'

/** Uses a good value up. */
async function succeed(use: Use, path: Path): Promise<string> {
  const value = await use.fresh()
  expect((await use.send(value)).outcome).toBe(path.good)
  return value
}

/** Wrong values until the budget is spent. */
async function spendBudget(use: Use): Promise<string[]> {
  const answers = await Promise.all(Array.from({ length: 30 }, () => use.send(use.wrong())))
  return answers.map(({ outcome }) => outcome)
}

export const rules: readonly Rule[] = [
  {
    name: 'replay',
    sentence: 'A value that has led to a success leads to no second one.',
    async check(path, { service }) {
      if (!path.once) return notUsedUp
      const use = await path.prepare(service)
      const value = await succeed(use, path)
      expectRefused((await use.send(value)).outcome, path)
      return 'holds'
    },
  },
  {
    name: 'replay elsewhere',
    sentence: 'A code that was spent on another path is spent on this one.',
    async check(path, { service }) {
      if (!isCode(path)) return { reason: 'a token of another kind does not open: see other kinds' }
      const use = await path.prepare(service)
      const { enrolled } = use
      if (enrolled === null) {
        const code = await succeed(use, path)
        await expect(service.totp.verifyTotpCode(use.person.id, code)).rejects.toMatchObject({
          code: 'code_already_used',
        })
        return 'holds'
      }
      const value = await use.fresh()
      const spend = path.takes === 'app code' ? service.totp.verifyTotpCode : service.totp.verifyBackupCode
      await spend(enrolled.person.id, value)
      expectRefused((await use.send(value)).outcome, path)
      return 'holds'
    },
  },
  {
    name: 'race',
    sentence: 'Of any number of uses of one value at once exactly one succeeds.',
    async check(path, { service }) {
      if (!path.once) return notUsedUp
      const use = await path.prepare(service)
      const value = await use.fresh()
      const answers = await Promise.all(Array.from({ length: 12 }, () => use.send(value)))
      expect(answers.filter(({ outcome }) => outcome === path.good)).toHaveLength(1)
      return 'holds'
    },
  },
  {
    name: 'budget',
    sentence: 'Of thirty wrong values at once five are judged, and a right one has to wait then.',
    async check(path, { service }) {
      if (!isCode(path)) return guessed
      const use = await path.prepare(service)
      const outcomes = await spendBudget(use)
      expect(outcomes.filter((outcome) => outcome === '400 invalid_code')).toHaveLength(5)
      expect(outcomes.filter((outcome) => outcome === '429 too_many_attempts')).toHaveLength(25)
      const value = path.takes === 'app code' ? use.enrolled?.phone.codeAt(service.clock.now() + 30) : await use.fresh()
      expect((await use.send(value ?? use.wrong())).outcome).toBe('429 too_many_attempts')
      return 'holds'
    },
  },
  {
    name: 'lock after the start',
    sentence: 'A lock that began on another path, after the challenge or the session, holds here too.',
    async check(path, { service }) {
      if (!isCode(path)) return guessed
      const use = await path.prepare(service)
      if (use.enrolled === null) return { reason: 'there is no other path while nothing is confirmed' }
      const { id } = use.person
      const guess = path.takes === 'app code' ? service.totp.verifyTotpCode : service.totp.verifyBackupCode
      for (let n = 0; n < 5; n++) await expect(guess(id, use.wrong())).rejects.toMatchObject({ code: 'invalid_code' })
      const value = path.takes === 'app code' ? use.enrolled.phone.codeAt(service.clock.now() + 30) : await use.fresh()
      expect((await use.send(value)).outcome).toBe('429 too_many_attempts')
      return 'holds'
    },
  },
  {
    name: 'other kinds',
    sentence: 'A code or token of any other kind is refused, and loses nothing by it.',
    async check(path, { service }) {
      const use = await path.prepare(service)
      const kinds = await oneOfEachKind(service)
      const own = ownKinds(path)
      if (use.otherCode) kinds['own code of the other kind'] = use.otherCode()
      for (const [kind, value] of Object.entries(kinds)) {
        if (own.includes(kind)) continue
        const { outcome } = await use.send(value)
        expectRefused(outcome, path, kind)
        // Codes are typed wrong often here: the owner does not wait for it in this rule.
        await service.totp.unlock(use.person.id)
      }
      await succeed(use, path)
      return 'holds'
    },
  },
  {
    name: 'other user',
    sentence: "Another user's value is refused, and is still good for its owner.",
    async check(path, { service }) {
      if (/refresh|verify, (access|refresh)|logout|enrollment/.test(path.name)) {
        return { reason: 'the token itself names the user, and nobody else is named' }
      }
      const use = await path.prepare(service, 'alice')
      const other = await path.prepare(service, 'bob')
      const value = await other.fresh()
      expectRefused((await use.send(value)).outcome, path)
      expect((await other.send(value)).outcome).toBe(path.good)
      return 'holds'
    },
  },
  {
    name: 'wrong type',
    sentence: 'A number, an array, an object, a truth value, null or nothing never passes.',
    async check(path, { service }) {
      if (path.name.includes('enrollment')) return { reason: 'a header is text' }
      const use = await path.prepare(service)
      const value = await use.fresh()
      const wrong = [Number(value) || 5, [value], [...value], { value }, { length: 6 }, true, 1, null, '', ' ', '\0']
      for (const sent of wrong) {
        const { outcome } = await use.send(sent)
        expect(outcome, JSON.stringify(sent)).toMatch(/^400 (validation_failed|wrong type)$/)
      }
      expect((await use.send(value)).outcome).toBe(path.good)
      return 'holds'
    },
  },
  {
    name: 'variants',
    sentence:
      'Another spelling of a spent value, with spaces, hyphens or other Unicode forms, is the same spent value.',
    async check(path, { service }) {
      if (!path.once) return notUsedUp
      const use = await path.prepare(service)
      const value = await succeed(use, path)
      for (const variant of variantsOf(value)) {
        expectRefused((await use.send(variant)).outcome, path, variant)
        await service.totp.unlock(use.person.id)
      }
      return 'holds'
    },
  },
  {
    name: 'expired',
    sentence: 'A value past its time is refused.',
    async check(path, { service }) {
      if (path.takes === 'backup code') return { reason: 'good until it is used or replaced' }
      const use = await path.prepare(service)
      const value = await use.fresh()
      // Longer than any lifetime but those of a trusted device and a backup code; a session of the caller's ends before.
      service.clock.advance(path.takes === 'app code' ? 91 : 31 * 86_400)
      expectRefused((await use.send(value)).outcome, path)
      return 'holds'
    },
  },
  {
    name: 'outdated',
    sentence: 'A token from before a change of the password or the factors is dead.',
    async check(path, { service }) {
      if (isCode(path)) return { reason: 'a code belongs to the factor; the old factor is gone with it' }
      if (path.name.includes('logout')) return { reason: 'ends what has ended' }
      const use = await path.prepare(service)
      const value = await use.fresh()
      await service.totp.credentialsChanged(use.person.id)
      expectRefused((await use.send(value)).outcome, path)
      return 'holds'
    },
  },
  {
    name: 'deactivated user',
    sentence: 'A user who may not log in any more gets nothing, whatever was begun before.',
    async check(path, { service }) {
      if (/cancel|logout/.test(path.name)) return { reason: 'only takes something away' }
      const use = await path.prepare(service)
      const value = await use.fresh()
      service.deactivated.add(use.person.id)
      expectRefused((await use.send(value)).outcome, path)
      return 'holds'
    },
  },
  {
    name: 'rolled back',
    sentence: "A wrong code stays counted when the host's transaction is rolled back.",
    async check(path, { service, rolledBack }) {
      if (!isCode(path)) return guessed
      if (rolledBack === null) return { reason: 'the store takes part in no transaction of the host there' }
      const use = await path.prepare(service)
      await rolledBack(async (inside) => {
        for (let n = 0; n < 5; n++) expect((await use.send(use.wrong(), inside)).outcome).toBe('400 invalid_code')
      })
      expect((await use.send(use.wrong())).outcome).toBe('429 too_many_attempts')
      return 'holds'
    },
  },
]

function ownKinds({ name, takes }: Path): string[] {
  if (takes !== 'token') return []
  if (name.includes('challenge')) return ['challenge']
  if (name.includes('trusted device')) return ['trusted device']
  if (name.includes('jwt/verify')) return ['access', 'refresh']
  if (/jwt\/(refresh|logout)/.test(name)) return ['refresh']
  // An access token there is the host's own log-in.
  return name.includes('recovery') ? ['recovery'] : ['enrollment', 'access']
}

function variantsOf(value: string): string[] {
  const fullWidth = value.replace(/[0-9]/g, (digit) => String.fromCodePoint((digit.codePointAt(0) as number) + 0xfee0))
  const middle = Math.floor(value.length / 2)
  const split = (mark: string) => value.slice(0, middle) + mark + value.slice(middle)
  const marks = [' ', '-', '\u00a0', '\u2013', '\u200b', '\u3000', '\ufeff']
  return [
    ...marks.map(split),
    ` ${value}`,
    `${value} `,
    `${value}\n`,
    fullWidth,
    value.toLowerCase(),
    value.toUpperCase(),
  ]
}
