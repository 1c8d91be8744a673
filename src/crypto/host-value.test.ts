import assert from 'node:assert/strict'
import { test } from 'vitest'
import { hostValues } from './host-value.ts'
import { createKeyring, generateFernetKey } from './keyring.ts'
import { openValue, sealValue } from './sealed-value.ts'

const NOON = 1_800_000_000
const keyring = createKeyring([generateFernetKey()])
const values = hostValues(keyring)

test('what a host seals opens again, and never as a stored secret, whatever text it holds', () => {
  for (const text of ['a text', '', JSON.stringify(['totp-secret', 'ann', 'JBSWY3DPEHPK3PXP'])]) {
    const token = values.seal(text, NOON)

    assert.equal(values.open(token), text)
    assert.equal(openValue(keyring, { purpose: 'totp-secret', owner: 'ann' }, token), null)
  }
})

test('a stored secret, backup code or canary does not open as a text of the host', () => {
  for (const purpose of ['totp-secret', 'backup-code', 'canary'] as const) {
    assert.equal(values.open(sealValue(keyring, { purpose, owner: 'ann' }, 'JBSWY3DPEHPK3PXP', NOON)), null)
  }
})

test('a token that another program sealed under the encryption key opens', () => {
  assert.equal(values.open(keyring.seal('JBSWY3DPEHPK3PXP', NOON)), 'JBSWY3DPEHPK3PXP')
  assert.equal(values.open(createKeyring([generateFernetKey()]).seal('a text', NOON)), null)
})
