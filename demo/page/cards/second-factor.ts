import type { Account } from '../app.ts'
import { withStepUp } from '../dialogs.ts'
import { el, moment } from '../dom.ts'
import { actionButton, type ErrorRegion, errorRegion } from '../form.ts'

/** How the wire says that no time opens a lock. */
const LAST_YEAR = '9999-'

export function secondFactorOffCard(account: Account): HTMLElement {
  const errors = errorRegion()
  return el(
    'section',
    { class: 'card' },
    headingWithStatus('off', 'Off'),
    el('p', {}, 'Whoever learns your password can log in as you. With a second factor they need your phone as well.'),
    errors.element,
    el('div', { class: 'actions' }, setUpButton('setup', 'primary', account, errors)),
  )
}

export function setUpButton(action: string, look: string, { app, me }: Account, errors: ErrorRegion): HTMLElement {
  return actionButton({
    action,
    label: 'Set up two-factor authentication',
    busyLabel: 'Preparing…',
    class: look,
    errors,
    work: async () => {
      const reason = 'To set up two-factor authentication, enter a code.'
      const enrolment = await withStepUp(reason, (code) => app.api.create('', code))
      if (enrolment !== null) app.toSetup({ enrolment, username: me.username, live: [], enrolmentToken: null })
    },
  })
}

export function secondFactorOnCard({ status }: Account): HTMLElement {
  return el(
    'section',
    { class: 'card' },
    headingWithStatus('on', 'On'),
    status.locked_until === null ? null : lockedWarning(status.locked_until),
    el('p', {}, 'On since ', status.confirmed_at === null ? 'an unknown day' : moment(status.confirmed_at), '.'),
  )
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
    ? ['There were very many wrong codes: those from the app are no longer accepted. Ask support to open them again.']
    : ['There were too many wrong codes. Those from the app are accepted again from ', moment(until), '.']
  return el(
    'p',
    { class: 'warning', 'data-locked': true },
    ...state,
    ' If that was not you, somebody knows your password: change it.',
  )
}
