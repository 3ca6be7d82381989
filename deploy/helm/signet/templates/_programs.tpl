{{/* What the two programs are told: their arguments, environment, files and configuration. */}}

{{/*
signet.yaml of a component: what it reads of `config`, with what the chart decides over it. A section that the program does not
read would restart it for nothing. Argument: (dict "root" $ "it" COMPONENT).
*/}}
{{- define "signet.componentConfig" -}}
{{- $values := .it.values -}}
{{- $config := deepCopy .root.Values.config -}}
{{- $decided := dict -}}
{{- if eq .it.component "gateway" -}}
{{- $config = omit $config "engine" "drift" -}}
{{- $gateway := dict "drain_timeout_s" $values.drainSeconds "workers" $values.workers -}}
{{- $decided = dict "gateway" (merge $gateway (include "signet.engineSources" .root | fromYaml)) -}}
{{- if .root.Values.policy -}}
{{- $_ := set $decided "guard" (dict "policy" "/etc/signet/policy.yaml") -}}
{{- end -}}
{{- else -}}
{{- $config = pick $config "engine" "telemetry" -}}
{{- $engine := dict "device" (ternary "gpu" "cpu" (gt (int $values.gpus) 0)) "drain_s" $values.drainSeconds "start_timeout_s" $values.startupSeconds -}}
{{- $arguments := include "signet.engineArguments" $values | fromYamlArray -}}
{{- if not (include "signet.keyringSecret" .root) -}}
{{- /* Else the engine would offer marks under a keyring of its own, which the gateway's keys are not from. */ -}}
{{- $arguments = prepend $arguments "--additional-config={}" -}}
{{- end -}}
{{- with $arguments -}}
{{- $_ := set $engine "arguments" . -}}
{{- end -}}
{{- $decided = dict "engine" (mergeOverwrite (deepCopy $values.settings) $engine) -}}
{{- end -}}
{{- mergeOverwrite $config $decided | toYaml }}
{{- end }}

{{/* What a running gateway takes on by itself (`LIVE` of its parts in serving/gateway; a test compares). Engines take on nothing. */}}
{{- define "signet.reloadable" -}}
- gateway.admission
- gateway.bind_forced_tools
- gateway.circuit
- gateway.connect_timeout_s
- gateway.cors
- gateway.drain_delay_s
- gateway.drain_timeout_s
- gateway.engine_api_key
- gateway.engine_dns
- gateway.engine_dns_interval_s
- gateway.engine_fields
- gateway.engine_services
- gateway.engine_tls
- gateway.engine_urls
- gateway.failover
- gateway.first_byte_timeout_s
- gateway.http
- gateway.idle_timeout_s
- gateway.kubeconfig
- gateway.load_interval_s
- gateway.max_answer_bytes
- gateway.max_answer_tokens
- gateway.max_body_bytes
- gateway.max_choices
- gateway.max_connections_per_engine
- gateway.max_embedding_inputs
- gateway.max_other_body_bytes
- gateway.media_hosts
- gateway.model_folders
- gateway.models
- gateway.probe_interval_s
- gateway.probe_timeout_s
- gateway.prompts
- gateway.reload_interval_s
- gateway.routing
- gateway.shared_cache
- gateway.unknown_fields
- guard
- identity.budget_answer_tokens
- identity.budget_compare_s
- identity.jwt
- identity.last_used_interval_s
- identity.poll_interval_s
- ledger
- prices
- receipts
{{- end }}

{{/* The settings of a component that only a restart changes. Argument: (dict "root" $ "it" COMPONENT). */}}
{{- define "signet.fixedConfig" -}}
{{- $config := include "signet.componentConfig" . | fromYaml -}}
{{- if eq .it.component "gateway" -}}
{{- range include "signet.reloadable" . | fromYamlArray -}}
{{- $path := splitList "." . -}}
{{- $section := index $config (first $path) -}}
{{- if eq (len $path) 1 -}}
{{- $_ := unset $config . -}}
{{- else if kindIs "map" $section -}}
{{- $_ := unset $section (last $path) -}}
{{- if not $section -}}
{{- $_ := unset $config (first $path) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml $config }}
{{- end }}

{{/*
The ConfigMap of a component's pods: one for each pod template. New settings that pods take on by themselves change it in
place; whatever starts new pods gives those one of their own, and the old ones never read it. Argument: (dict "root" $ "it" COMPONENT).
*/}}
{{- define "signet.configMap" -}}
{{- $pod := include "signet.podTemplate" (merge (dict "configMap" "") .) -}}
{{- printf "%s-%s" .it.name (cat $pod (include "signet.fixedConfig" .) | sha256sum | trunc 10) }}
{{- end }}

{{/* How a component is spoken to. Argument: (dict "root" $ "it" COMPONENT). */}}
{{- define "signet.scheme" -}}
{{- if and (eq .it.component "gateway") (dig "gateway" "tls" dict .root.Values.config) }}https{{ else }}http{{ end }}
{{- end }}

{{/* Seconds for which a stopping gateway takes new requests after preStop, as `config` has it. Argument: (dict "root" $ "it" COMPONENT). */}}
{{- define "signet.drainDelay" -}}
{{- if eq .it.component "gateway" }}{{ dig "gateway" "drain_delay_s" 0 .root.Values.config | float64 | ceil | int }}{{ else }}0{{ end }}
{{- end }}

{{/* "true" when a component talks to the Kubernetes API. Argument: (dict "root" $ "it" COMPONENT). */}}
{{- define "signet.asksKubernetes" -}}
{{- if and (eq .it.component "gateway") (eq .root.Values.gateway.discovery "endpointSlices") .root.Values.engines }}true{{ end }}
{{- end }}

{{/* Arguments for vLLM: the pool's own, and tensor parallelism over its GPUs unless they say how to split. */}}
{{- define "signet.engineArguments" -}}
{{- $arguments := .extraArgs -}}
{{- if and (gt (int .gpus) 1) (not (contains "-parallel-size" (join " " .extraArgs))) -}}
{{- $arguments = concat $arguments (list "--tensor-parallel-size" (toString .gpus)) -}}
{{- end -}}
{{- toYaml $arguments }}
{{- end }}

{{/* Argument: root. */}}
{{- define "signet.gatewayArgs" -}}
- gateway
- --host=0.0.0.0
- --port=8000
{{- with .Values.gateway.extraArgs }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/*
Where the gateway finds engines and their tokenizers. Settings, not arguments: a gateway that runs takes on a new pool or model.
Argument: root.
*/}}
{{- define "signet.engineSources" -}}
{{- $names := list -}}
{{- $folders := dict -}}
{{- range rest (include "signet.components" . | fromYaml).items -}}
{{- $names = append $names .name -}}
{{- with include "signet.tokenizerFolder" .values -}}
{{- $_ := set $folders (regexFind "^[^=]+" .) (regexReplaceAll "^[^=]+=" . "") -}}
{{- end -}}
{{- end -}}
{{- with $names -}}
{{- if eq $.Values.gateway.discovery "dns" }}
engine_dns: [{{ range . }}"http://{{ . }}:8100",{{ end }}]
{{- else }}
engine_services: [{{ range . }}"{{ . }}:http",{{ end }}]
{{- end }}
{{- end }}
{{- with .Values.gateway.externalEngines }}
engine_urls: {{ toJson . }}
{{- end }}
{{- with $folders }}
model_folders: {{ toJson . }}
{{- end }}
{{- end }}

{{/*
NAME=FOLDER of a pool's tokenizer, for control tokens and detection: as told, or of a checkpoint whose version
is a number. An alias moves, so a folder derived from one would be wrong after the next promotion.
*/}}
{{- define "signet.tokenizerFolder" -}}
{{- if .tokenizerFolder -}}
{{- .tokenizerFolder }}
{{- else if regexMatch "^[^/@]+@[0-9]+$" .model -}}
{{- $parts := splitList "@" .model -}}
{{- printf "%s=/var/lib/signet/registry/%s/%s" (first $parts) (first $parts) (last $parts) }}
{{- end }}
{{- end }}

{{/* Argument: the pool's values. */}}
{{- define "signet.engineArgs" -}}
- engine
- --host=0.0.0.0
- --port=8100
{{- with .model }}
- --model={{ . }}
{{- end }}
{{- end }}

{{- define "signet.gatewayEnv" -}}
{{ include "signet.keyringEnv" . }}
{{ include "signet.engineKeyEnv" . }}
{{- if include "signet.receiptsSecret" . }}
- {name: SIGNET_RECEIPTS__KEYS, value: /run/signet/receipts/receipt-keys.json}
{{- else if include "signet.sharedLedger" . }}
# Each replica would sign with keys of its own, which are gone with it.
- {name: SIGNET_RECEIPTS__ENABLED, value: "false"}
{{- end }}
{{- with include "signet.ledgerSecret" . }}
- name: SIGNET_DATABASE__URL
  valueFrom:
    secretKeyRef: {name: {{ . }}, key: url}
- name: SIGNET_DATABASE__READ_URL
  valueFrom:
    secretKeyRef: {name: {{ . }}, key: readUrl, optional: true}
{{- end }}
{{- if include "signet.upgradesByJob" . }}
- {name: SIGNET_DATABASE__MIGRATE, value: never}
{{- end }}
{{- with include "signet.limitsSecret" . }}
- name: SIGNET_IDENTITY__LIMITS_URL
  valueFrom:
    secretKeyRef: {name: {{ . }}, key: url}
{{- end }}
{{- end }}

{{/* `signet gateway` sends it, and `signet engine` has vLLM ask for it. */}}
{{- define "signet.engineKeyEnv" -}}
{{- with include "signet.engineKeySecret" . }}
- name: SIGNET_GATEWAY__ENGINE_API_KEY
  valueFrom:
    secretKeyRef: {name: {{ . }}, key: key}
{{- end }}
{{- end }}

{{/* Argument: (dict "root" $ "it" COMPONENT). */}}
{{- define "signet.engineEnv" -}}
- {name: XDG_CACHE_HOME, value: /var/cache/signet}
- {name: XDG_CONFIG_HOME, value: /tmp/.config}
- {name: HF_HOME, value: /var/cache/signet/huggingface}
- {name: VLLM_CACHE_ROOT, value: /var/cache/signet/vllm}
- {name: TORCHINDUCTOR_CACHE_DIR, value: /var/cache/signet/inductor}
- {name: TRITON_CACHE_DIR, value: /var/cache/signet/triton}
- {name: NUMBA_CACHE_DIR, value: /var/cache/signet/numba}
- {name: FLASHINFER_WORKSPACE_BASE, value: /var/cache/signet}
{{ include "signet.keyringEnv" .root }}
{{ include "signet.engineKeyEnv" .root }}
{{- if not (include "signet.keyringSecret" .root) }}
# The program makes a keyring where there is none: not in the read-only image.
- {name: SIGNET_KEYRING, value: /tmp/keyring.json}
{{- end }}
{{- with include "signet.huggingFaceSecret" .root }}
- name: HF_TOKEN
  valueFrom:
    secretKeyRef: {name: {{ . }}, key: token}
{{- end }}
{{- end }}

{{- define "signet.gatewayVolumes" -}}
- name: home
  {{- if include "signet.sharedLedger" . }}
  emptyDir: {}
  {{- else }}
  persistentVolumeClaim: {claimName: {{ include "signet.gatewayClaim" . }}}
  {{- end }}
{{ include "signet.keyringVolume" . }}
{{- with include "signet.receiptsSecret" . }}
- name: receipts
  secret:
    secretName: {{ . }}
    defaultMode: 0440
    items: [{key: receipt-keys.json, path: receipt-keys.json}]
{{- end }}
{{ if include "signet.usesRegistry" . }}{{ include "signet.registryVolumes" . }}{{ end }}
{{- end }}

{{- define "signet.gatewayMounts" -}}
- {name: home, mountPath: /var/lib/signet}
{{ include "signet.keyringMount" . }}
{{- if include "signet.receiptsSecret" . }}
- {name: receipts, mountPath: /run/signet/receipts, readOnly: true}
{{- end }}
{{ if include "signet.usesRegistry" . }}{{ include "signet.registryMounts" . }}{{ end }}
{{- end }}

{{/*
Below SIGNET_HOME an engine writes its cache and nothing else; the rest is the image's, which holds the
embedded model, or the registry's. Argument: (dict "root" $ "it" COMPONENT).
*/}}
{{- define "signet.engineVolumes" -}}
- {name: cache, emptyDir: {sizeLimit: {{ .it.values.cacheSize }}}}
- {name: shared-memory, emptyDir: {medium: Memory, sizeLimit: {{ .it.values.sharedMemorySize }}}}
{{ include "signet.keyringVolume" .root }}
{{ if include "signet.isRegistryModel" .it.values.model }}{{ include "signet.registryVolumes" .root }}{{ end }}
{{- end }}

{{- define "signet.engineMounts" -}}
- {name: cache, mountPath: /var/lib/signet/cache, subPath: signet}
- {name: cache, mountPath: /var/cache/signet}
- {name: shared-memory, mountPath: /dev/shm}
{{ include "signet.keyringMount" .root }}
{{ if include "signet.isRegistryModel" .it.values.model }}{{ include "signet.registryMounts" .root }}{{ end }}
{{- end }}

{{- define "signet.keyringVolume" -}}
{{- with include "signet.keyringSecret" . }}
- name: keyring
  secret:
    secretName: {{ . }}
    defaultMode: 0440
    items: [{key: keyring.json, path: keyring.json}]
{{- end }}
{{- end }}

{{- define "signet.keyringMount" -}}
{{- if include "signet.keyringSecret" . }}
- {name: keyring, mountPath: /run/signet/keyring, readOnly: true}
{{- end }}
{{- end }}

{{- define "signet.keyringEnv" -}}
{{- if include "signet.keyringSecret" . }}
- {name: SIGNET_KEYRING, value: /run/signet/keyring/keyring.json}
{{- end }}
{{- end }}

{{- define "signet.registryVolumes" -}}
- name: registry
  persistentVolumeClaim: {claimName: {{ include "signet.registryClaim" . }}, readOnly: true}
{{- with include "signet.trustedKeysConfigMap" . }}
- name: trusted-keys
  configMap: {name: {{ . }}}
{{- end }}
{{- end }}

{{- define "signet.registryMounts" -}}
- {name: registry, mountPath: /var/lib/signet/registry, readOnly: true}
{{- if include "signet.trustedKeysConfigMap" . }}
- {name: trusted-keys, mountPath: /var/lib/signet/keys/trusted, readOnly: true}
{{- end }}
{{- end }}
