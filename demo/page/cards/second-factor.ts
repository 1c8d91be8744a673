import type { Status } from '../api.ts'
import type { Account } from '../app.ts'
import { withStepUp } from '../dialogs.ts'
import { el, moment } from '../dom.ts'
import { actionButton, type ErrorRegion, errorRegion } from '../form.ts'

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
      const enrolment = await withStepUp('To set up two-factor authentication, enter a code.', app.api.create)
      if (enrolment !== null) app.toSetup({ enrolment, username: me.username, replaces: false })
    },
  })
}

export function secondFactorOnCard({ app, me, status }: Account): HTMLElement {
  const errors = errorRegion()
  const newPhone = actionButton({
    action: 'new-phone',
    label: 'Set up a new phone',
    busyLabel: 'Preparing…',
    errors,
    work: async () => {
      const reason = 'To set up a new phone, enter a code from the present one, or a backup code.'
      const enrolment = await withStepUp(reason, app.api.create)
      if (enrolment !== null) app.toSetup({ enrolment, username: me.username, replaces: true })
    },
  })
  return el(
    'section',
    { class: 'card' },
    headingWithStatus('on', 'On'),
    status.locked_until === null ? null : lockedWarning(status.locked_until),
    el(
      'dl',
      {},
      fact('On since', status.confirmed_at === null ? 'unknown' : moment(status.confirmed_at)),
      ...status.authenticators.map(authenticator),
      status.trusted_devices === 0 ? null : fact('Trusted devices', String(status.trusted_devices)),
    ),
    errors.element,
    el('div', { class: 'actions' }, newPhone),
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
  return el(
    'p',
    { class: 'warning', 'data-locked': true },
    'There were too many wrong codes. Codes from the app are accepted again from ',
    moment(until),
    '. If that was not you, somebody knows your password: change it.',
  )
}

function authenticator({ name, created_at, last_used_at }: Status['authenticators'][number]): HTMLElement {
  const used = last_used_at === null ? ['not used yet'] : ['last used ', moment(last_used_at)]
  const added = el('small', {}, 'added ', moment(created_at))
  return fact(name || 'Authenticator', el('span', {}, ...used, ' ', added))
}

function fact(name: string, value: Node | string): HTMLElement {
  return el('div', {}, el('dt', {}, name), el('dd', {}, value))
}
