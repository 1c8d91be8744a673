import type { TrustedDevice } from '../api.ts'
import type { Account } from '../app.ts'
import { deliberately, withStepUp } from '../dialogs.ts'
import { ago, day, el } from '../dom.ts'
import { actionButton, type ErrorRegion, errorRegion } from '../form.ts'
import { count } from '../wording.ts'

/** @param days - how long a device is trusted */
export function trustedDevicesCard(account: Account, days: number): HTMLElement {
  const { trustedDevices } = account
  const errors = errorRegion()
  const none = `You have no trusted devices. When you log in with a code, you can choose to skip the code on that device for ${count(days, 'day')}.`
  return el(
    'section',
    { class: 'card' },
    el('h2', {}, 'Trusted devices'),
    el('p', {}, trustedDevices.length === 0 ? none : 'You can log in on these devices without a code.'),
    trustedDevices.length === 0
      ? null
      : el(
          'ul',
          { class: 'things', 'data-trusted-devices': true },
          ...trustedDevices.map((each) => item(account, each, errors)),
        ),
    errors.element,
    trustedDevices.length < 2 ? null : el('div', { class: 'actions' }, removeAllButton(account, errors)),
  )
}

function item({ app }: Account, device: TrustedDevice, errors: ErrorRegion): HTMLElement {
  const name = device.name ?? 'Unnamed device'
  const remove = actionButton({
    action: 'remove-device',
    label: 'Remove',
    busyLabel: null,
    errors,
    work: async () => {
      const call = () => app.api.removeTrustedDevice(device.id).then(() => true as const)
      if ((await withStepUp(app, `Enter a code to remove “${name}”.`, call)) === null) return
      app.toAccount({ notice: `“${name}” is no longer trusted. The next login on that device requires a code.` })
    },
  })
  remove.setAttribute('aria-label', `Remove ${name}`)
  return el(
    'li',
    {},
    el(
      'div',
      {},
      el('strong', {}, name),
      device.is_current ? el('span', { class: 'badge on', 'data-current': true }, 'This device') : null,
      el('small', {}, 'Last used ', ago(device.last_used_at)),
      el('small', {}, 'Trusted until ', day(device.expires_at)),
    ),
    remove,
  )
}

function removeAllButton({ app }: Account, errors: ErrorRegion): HTMLElement {
  return actionButton({
    action: 'remove-devices',
    label: 'Remove all trusted devices',
    busyLabel: null,
    class: 'danger',
    errors,
    work: async () => {
      const deed = {
        question: 'Remove all trusted devices?',
        consequence: 'The next login on each of them requires a code.',
        action: 'confirm-remove-devices',
        label: 'Remove all',
        busyLabel: 'Removing…',
      }
      const removed = await deliberately(app, deed, app.api.removeTrustedDevices)
      if (removed !== null) app.toAccount({ notice: 'All trusted devices were removed.' })
    },
  })
}
