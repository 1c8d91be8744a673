import type { Account } from '../app.ts'
import { deliberately, withStepUp } from '../dialogs.ts'
import { day, el, moment } from '../dom.ts'
import { actionButton, type ErrorRegion, errorRegion } from '../form.ts'
import { authenticatorRows } from './authenticators.ts'

/** How the wire says that no time opens a lock. */
const LAST_YEAR = '9999-'

export function secondFactorOffCard(account: Account): HTMLElement {
  const errors = errorRegion()
  return el(
    'section',
    { class: 'card' },
    headingWithStatus('off', 'Off'),
    el('p', {}, 'Add a second step to your login, so that a stolen password is not enough.'),
    errors.element,
    el('div', { class: 'actions' }, setUpButton('setup', 'primary', account, errors)),
  )
}

export function setUpButton(action: string, look: string, account: Account, errors: ErrorRegion): HTMLElement {
  const { app, me, status } = account
  return actionButton({
    action,
    label: status.pending === null ? 'Set up two-factor authentication' : 'Continue setup',
    busyLabel: 'Preparing…',
    class: look,
    errors,
    work: async () => {
      const enrollment = await withStepUp(app, 'Enter a code to set up two-factor authentication.', app.api.create)
      if (enrollment === null) return
      app.toSetup({ enrollment, username: me.username, name: '', isFurther: false, enrollmentToken: null })
    },
  })
}

export function secondFactorOnCard(account: Account): HTMLElement {
  const { status } = account
  return el(
    'section',
    { class: 'card' },
    headingWithStatus('on', 'On'),
    status.locked_until === null ? null : lockedWarning(status.locked_until),
    status.confirmed_at === null ? null : el('p', {}, 'On since ', day(status.confirmed_at), '.'),
    ...authenticatorRows(account),
    turnOff(account),
  )
}

function turnOff({ app }: Account): HTMLElement {
  const errors = errorRegion()
  const disable = actionButton({
    action: 'disable',
    label: 'Turn off two-factor authentication',
    busyLabel: null,
    class: 'danger',
    errors,
    work: async () => {
      const deed = {
        question: 'Turn off two-factor authentication?',
        consequence:
          'Your password alone will be enough to log in. Your authenticators, backup codes, and trusted devices will be removed.',
        action: 'confirm-disable',
        label: 'Turn off',
        busyLabel: 'Turning off…',
      }
      const off = await deliberately(app, deed, app.api.disable)
      if (off !== null) app.toAccount({ notice: 'Two-factor authentication is off. Your backup codes no longer work.' })
    },
  })
  return el('div', { class: 'elsewhere' }, errors.element, el('div', { class: 'actions' }, disable))
}

function headingWithStatus(state: 'on' | 'off', text: string): HTMLElement {
  return el(
    'div',
    { class: 'with-status' },
    el('h2', {}, 'Two-factor authentication'),
    el('span', { class: `badge ${state}`, 'data-status': state }, text),
  )
}

function lockedWarning(until: string): HTMLElement {
  const state = until.startsWith(LAST_YEAR)
    ? [
        'Codes from your authenticator app are locked after too many incorrect attempts. Use a backup code, or contact support.',
      ]
    : ['There were too many incorrect codes. Codes from your authenticator app work again from ', moment(until), '.']
  return el(
    'p',
    { class: 'warning', 'data-locked': true },
    ...state,
    ' If this was not you, someone knows your password. Change it now.',
  )
}
