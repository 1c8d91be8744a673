import { expect, test } from 'vitest'
import { decodeBase32 } from './base32.ts'
import { generateTotpSecret } from './secret.ts'

test('a new secret is 160 bits in 32 letters without padding (RFC 4226 §4 R6)', () => {
  const secret = generateTotpSecret()

  expect(secret).toMatch(/^[A-Z2-7]{32}$/)
  expect(decodeBase32(secret)).toHaveLength(20)
})

test('a new secret is another one each time', () => {
  expect(new Set(Array.from({ length: 100 }, generateTotpSecret)).size).toBe(100)
})
