#!/bin/sh
# The page: facts that only this machine can know, read while you wait.
# The shell reads most of them itself: without KVM each program it starts would make you wait longer.
read -r uptime _ </proc/uptime
read -r kernel </proc/sys/kernel/osrelease
read -r machine </proc/sys/kernel/arch
read -r name </proc/sys/kernel/hostname
read -r _ memory _ </proc/meminfo
set -- /sys/devices/system/cpu/cpu[0-9]*
cpus=$#
set -- /proc/[0-9]*
processes=$#
# Two lines: seven words of headings, then the device and its size.
set -- $(df -k /)
disk=$9
user=$(id -u)

printf 'Content-Type: text/html; charset=utf-8\r\nCache-Control: no-store\r\n\r\n'
cat <<PAGE
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="/icon.svg" type="image/svg+xml">
<title>Hello from $name</title>
<style>
  :root { color-scheme: light dark; --ink: #0e2a3b; --quiet: #5b7484; --paper: #f6fafb; --line: #d9e5ea; --accent: #0d7f8c }
  @media (prefers-color-scheme: dark) { :root { --ink: #e6f1f4; --quiet: #8fa9b5; --paper: #0b1a22; --line: #1d3440; --accent: #4fc3cf } }
  * { box-sizing: border-box }
  body { margin: 0; min-height: 100vh; display: grid; place-items: center; background: var(--paper); color: var(--ink);
    font: 17px/1.6 system-ui, sans-serif }
  main { width: min(40rem, 100%); padding: 3rem 1.5rem }
  svg { display: block; width: 4.5rem; margin-bottom: 1.5rem; color: var(--accent) }
  h1 { font-size: 2.2rem; line-height: 1.15; letter-spacing: -.02em; margin: 0 0 .6rem }
  p { margin: 0 0 1rem; color: var(--quiet) }
  dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: 0 2rem; margin: 2rem 0 }
  dl div { border-top: 1px solid var(--line); padding: .7rem 0 }
  dt { font-size: .8rem; color: var(--quiet) }
  dd { margin: 0; font-variant-numeric: tabular-nums; overflow-wrap: anywhere }
  code { background: color-mix(in srgb, var(--accent) 12%, transparent); padding: .1em .4em; border-radius: .3em; font-size: .9em }
</style>
<main>
  <svg viewBox="0 0 48 36" fill="none" stroke="currentColor" stroke-width="2.5" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">
    <path d="M24 4v16M24 5l11 11H24M6 22h36l-5 8H11zM3 34c3.5 0 3.5-2 7-2s3.5 2 7 2 3.5-2 7-2 3.5 2 7 2 3.5-2 7-2 3.5 2 7 2"/>
  </svg>
  <h1>You have reached a virtual machine</h1>
  <p>This page was made by <strong>$name</strong>: a machine with its own kernel, memory and disk, booted from a container image that was
    built a moment ago out of one Dockerfile.</p>
  <dl>
    <div><dt>Up for</dt><dd>$uptime s</dd></div>
    <div><dt>Kernel</dt><dd>$kernel</dd></div>
    <div><dt>Processor</dt><dd>$cpus × $machine</dd></div>
    <div><dt>Memory</dt><dd>$((memory / 1024)) MiB</dd></div>
    <div><dt>Root disk</dt><dd>$((disk / 1024)) MiB</dd></div>
    <div><dt>Processes</dt><dd>$processes, and this page's server runs as user $user</dd></div>
  </dl>
  <p>Look inside with <code>npx berth shell $name</code>. The source of this page is <code>examples/hello</code>.</p>
</main>
</html>
PAGE
