import assert from 'node:assert/strict'
import { describe, test } from 'vitest'
import { tablesOf } from './tables.ts'

describe('where the tables stand', () => {
  test('their names begin with the prefix, which is totp_ unless another is given', () => {
    const { prefix, ...names } = tablesOf()

    assert.equal(prefix, 'totp_')
    assert.deepEqual(names, {
      user: 'totp_user',
      authenticator: 'totp_authenticator',
      pending: 'totp_pending_authenticator',
      backupCode: 'totp_backup_code',
      failure: 'totp_failure',
      burntToken: 'totp_burnt_token',
      refreshFamily: 'totp_refresh_family',
      trustedDevice: 'totp_trusted_device',
      throttle: 'totp_throttle',
      canary: 'totp_canary',
      migration: 'totp_migration',
    })
    assert.equal(tablesOf({ prefix: 'mfa_' }).user, 'mfa_user')
  })

  test('they stand in the schema, and what belongs to them is named after both', () => {
    const { user, prefix } = tablesOf({ schema: 'auth', prefix: 'mfa_' })

    assert.deepEqual({ user, prefix }, { user: 'auth.mfa_user', prefix: 'auth_mfa_' })
  })

  test.each([
    ['an empty prefix', { prefix: '' }],
    ['a capital', { prefix: 'Totp_' }],
    ['a digit first', { prefix: '2fa_' }],
    ['a statement behind it', { prefix: 'totp_; DROP TABLE x' }],
    ['a statement before it', { prefix: '"; totp_' }],
    ['a schema that is no name', { schema: 'auth-api' }],
    ['an empty schema', { schema: '' }],
    ['a prefix of 31 characters', { prefix: 'a'.repeat(31) }],
    ['a schema that is too long beside the prefix', { schema: 'a'.repeat(26) }],
  ])('%s is refused', (_, options) => {
    assert.throws(
      () => tablesOf(options),
      new TypeError(
        'table prefix and schema may contain only a-z, 0-9 and _, not start with a digit, and have at most 30 characters together',
      ),
    )
  })

  test.each([
    ['a prefix of 30 characters', { prefix: 'a'.repeat(30) }],
    ['a schema and a prefix of 30 together', { schema: 'a'.repeat(25) }],
    ['an underscore first, and digits', { prefix: '_2fa_', schema: 's3' }],
  ])('%s is taken', (_, options) => {
    assert.ok(tablesOf(options).user.endsWith('user'))
  })
})
