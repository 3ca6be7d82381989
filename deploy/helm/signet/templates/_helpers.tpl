{{/* Names, labels and the list of components that the other templates loop over. */}}

{{- define "signet.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* 28 characters at most: `-engine-POOL` with the longest pool name still fits a Service's 63. */}}
{{- define "signet.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 28 | trimSuffix "-" }}
{{- else -}}
{{- $name := include "signet.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 28 | trimSuffix "-" }}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 28 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "signet.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: signet
{{- with omit .Values.labels "helm.sh/chart" "app.kubernetes.io/version" "app.kubernetes.io/managed-by" "app.kubernetes.io/part-of" "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" "signet/pool" }}
{{ toYaml . }}
{{- end }}
{{ include "signet.selector" . }}
{{- end }}

{{/* What never changes over a release's life: Deployment selectors are immutable. */}}
{{- define "signet.selector" -}}
app.kubernetes.io/name: {{ include "signet.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* The selector of one component. Argument: (dict "root" $ "it" COMPONENT). */}}
{{- define "signet.componentSelector" -}}
{{ include "signet.selector" .root }}
app.kubernetes.io/component: {{ .it.component }}
{{- with .it.pool }}
signet/pool: {{ . }}
{{- end }}
{{- end }}

{{/* Labels of an object that belongs to one component. Argument as above. */}}
{{- define "signet.componentLabels" -}}
{{ include "signet.labels" .root }}
app.kubernetes.io/component: {{ .it.component }}
{{- with .it.pool }}
signet/pool: {{ . }}
{{- end }}
{{- end }}

{{/*
The components, as YAML: {items: [{component, pool, name, port, values}]}, the gateway first, then each
pool of engines with its values merged over engineDefaults. Templates loop over this instead of
repeating themselves for the gateway and the engines.
*/}}
{{- define "signet.components" -}}
{{- $full := include "signet.fullname" . -}}
{{- $gateway := dict "component" "gateway" "pool" "" "name" (printf "%s-gateway" $full) "port" 8000 "values" .Values.gateway -}}
{{- $items := list $gateway -}}
{{- range .Values.engines -}}
{{- $values := mergeOverwrite (deepCopy $.Values.engineDefaults) (deepCopy .) -}}
{{- $_ := set $values "rollout" (include "signet.rollout" $values | fromYaml) -}}
{{- $items = append $items (dict "component" "engine" "pool" .name "name" (printf "%s-engine-%s" $full .name) "port" 8100 "values" $values) -}}
{{- end -}}
{{- dict "items" $items | toYaml -}}
{{- end }}

{{/*
How a pool's update proceeds: with GPUs one engine goes before its successor comes, which would wait for ever where none is
spare; otherwise the successor comes first. Argument: the pool's values.
*/}}
{{- define "signet.rollout" -}}
{{- $surge := .rollout.maxSurge -}}
{{- if kindIs "invalid" $surge -}}
{{- $surge = ternary 0 1 (and (gt (int .gpus) 0) (ne (toString .rollout.maxUnavailable) "0")) -}}
{{- end -}}
{{- $unavailable := .rollout.maxUnavailable -}}
{{- if kindIs "invalid" $unavailable -}}
{{- $unavailable = ternary 1 0 (eq (toString $surge | trimSuffix "%") "0") -}}
{{- end -}}
maxSurge: {{ $surge }}
maxUnavailable: {{ $unavailable }}
{{- end }}

{{/* The CPU of requests or limits in thousandths of a core; 0: none is said. */}}
{{- define "signet.millicores" -}}
{{- $cpu := toString (.cpu | default 0) -}}
{{- if hasSuffix "m" $cpu }}{{ trimSuffix "m" $cpu }}{{ else }}{{ mulf (float64 $cpu) 1000 }}{{ end }}
{{- end }}

{{/* "true" when a model is a reference into the registry: not the embedded one, not a folder, not a hub id. */}}
{{- define "signet.isRegistryModel" -}}
{{- if and . (not (contains "/" .)) }}true{{ end }}
{{- end }}

{{/* "true" when some pool serves a checkpoint of the registry. */}}
{{- define "signet.usesRegistry" -}}
{{- range .Values.engines }}{{ if include "signet.isRegistryModel" (.model | default "") }}true{{ end }}{{ end }}
{{- end }}

{{/* "true" when the gateway's records are in a database that replicas can share. */}}
{{- define "signet.sharedLedger" -}}
{{- if or .Values.ledger.existingSecret (and .Values.ledger.url (not (hasPrefix "sqlite" .Values.ledger.url))) }}true{{ end }}
{{- end }}

{{/* "true" when a Job brings the database to a release's schema before its gateways start. */}}
{{- define "signet.upgradesByJob" -}}
{{- if and (include "signet.sharedLedger" .) (eq .Values.ledger.migrate "job") }}true{{ end }}
{{- end }}

{{- define "signet.registryClaim" -}}
{{- .Values.registry.existingClaim | default (printf "%s-registry" (include "signet.fullname" .)) }}
{{- end }}

{{- define "signet.gatewayClaim" -}}
{{- .Values.gateway.persistence.existingClaim | default (printf "%s-gateway" (include "signet.fullname" .)) }}
{{- end }}

{{- define "signet.trustedKeysConfigMap" -}}
{{- if .Values.registry.trustedKeysConfigMap -}}
{{- .Values.registry.trustedKeysConfigMap }}
{{- else if .Values.registry.trustedKeys -}}
{{- printf "%s-trusted-keys" (include "signet.fullname" .) }}
{{- end }}
{{- end }}

{{/* The Secret of `marks`, `receipts`, `ledger`, `limits`, `engineKey` or `huggingFace`, or nothing. Argument: (dict "root" $ "section" NAME "value" VALUE). */}}
{{- define "signet.secretName" -}}
{{- $section := index .root.Values .section -}}
{{- if $section.existingSecret -}}
{{- $section.existingSecret }}
{{- else if .value -}}
{{- printf "%s-%s" (include "signet.fullname" .root) (kebabcase .section) }}
{{- end }}
{{- end }}

{{- define "signet.keyringSecret" -}}
{{- include "signet.secretName" (dict "root" . "section" "marks" "value" .Values.marks.keyring) }}
{{- end }}

{{- define "signet.receiptsSecret" -}}
{{- include "signet.secretName" (dict "root" . "section" "receipts" "value" .Values.receipts.keys) }}
{{- end }}

{{- define "signet.ledgerSecret" -}}
{{- include "signet.secretName" (dict "root" . "section" "ledger" "value" .Values.ledger.url) }}
{{- end }}

{{- define "signet.limitsSecret" -}}
{{- include "signet.secretName" (dict "root" . "section" "limits" "value" .Values.limits.url) }}
{{- end }}

{{- define "signet.huggingFaceSecret" -}}
{{- include "signet.secretName" (dict "root" . "section" "huggingFace" "value" .Values.huggingFace.token) }}
{{- end }}

{{/*
The Secret with the key between gateway and engines, or nothing. The gateway sends one key to all engines: where there are
others than the chart's, none is made that they would be sent, and would not know.
*/}}
{{- define "signet.engineKeySecret" -}}
{{- $made := and .Values.engines (not .Values.gateway.externalEngines) -}}
{{- include "signet.secretName" (dict "root" . "section" "engineKey" "value" (or .Values.engineKey.key $made)) }}
{{- end }}

{{- define "signet.serviceAccount" -}}
{{- .Values.serviceAccountName | default (include "signet.fullname" .) }}
{{- end }}
