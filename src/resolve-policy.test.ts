import { describe, expect, test } from 'vitest'
import { keyUri } from './otp/key-uri.ts'
import { resolvePolicy } from './resolve-policy.ts'

const accountName = 'a.rather.long.name@mail.example.com'
const standard = { secret: 'A'.repeat(32), algorithm: 'SHA1', digits: 6, periodSeconds: 30 } as const

describe('an issuer', () => {
  test.each([
    ['of 64 letters', 'A'.repeat(64)],
    ['of 64 signs that percent-encoding triples', ' C&A'.repeat(16).trim()],
    ['in a script that percent-encoding makes nine times as long', '株式会社'.repeat(5)],
  ])('%s is taken, and an account of it fits a key URI', (_, issuer) => {
    const policy = resolvePolicy({ issuer })

    expect(decodeURIComponent(keyUri({ ...standard, issuer: policy.issuer, accountName }))).toContain(`/${issuer}:`)
  })

  test.each([
    ['that is blank', ' '],
    ['that holds a colon', 'Acme: Inc'],
    ['that holds a control character', 'Ac\u0007me'],
    ['that holds half of a surrogate pair', 'Acme \ud83d'],
    ['of 65 letters', 'A'.repeat(65)],
    ['that leaves no room for an account in the key URI', '株'.repeat(64)],
  ])('%s stops the start, not the first enrollment', (_, issuer) => {
    expect(() => resolvePolicy({ issuer })).toThrow(/^issuer must/)
  })
})
