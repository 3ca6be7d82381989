{{/* Mistakes that a schema cannot see. Each ends the command with one line that says what to do. */}}
{{- define "signet.check" -}}
{{- $gateway := .Values.gateway -}}
{{- if not (include "signet.sharedLedger" .) -}}
{{- $most := ternary $gateway.autoscaling.maxReplicas $gateway.replicas $gateway.autoscaling.enabled -}}
{{- if gt (int $most) 1 -}}
{{- fail (printf "the gateway may run %d replicas, but its ledger is an SQLite file that only one can write: set ledger.url (or ledger.existingSecret) to a PostgreSQL database, or keep one replica" (int $most)) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.drift.enabled (not (include "signet.sharedLedger" .)) -}}
{{- fail "the drift worker reads the ledger from a pod of its own, which an SQLite file on the gateway's volume does not allow: set ledger.url (or ledger.existingSecret) to a PostgreSQL database, or drift.enabled to false" -}}
{{- end -}}
{{- $names := list -}}
{{- range (include "signet.components" . | fromYaml).items -}}
{{- $item := . -}}
{{- $where := ternary "gateway" (printf "engine pool %q" .pool) (eq .component "gateway") -}}
{{- if and .pool (has .pool $names) -}}
{{- fail (printf "two entries of engines are named %q: give each pool its own name" .pool) -}}
{{- end -}}
{{- $names = append $names .pool -}}
{{- with .values.autoscaling -}}
{{- if gt (int .minReplicas) (int .maxReplicas) -}}
{{- fail (printf "%s: autoscaling.minReplicas (%d) is above autoscaling.maxReplicas (%d)" $where (int .minReplicas) (int .maxReplicas)) -}}
{{- end -}}
{{- end -}}
{{- with .values.autoscaling -}}
{{- $scales := and .enabled (gt (int .maxReplicas) (int .minReplicas)) -}}
{{- range ternary .signals list $scales -}}
{{- if and (eq .type "cpu") $item.pool -}}
{{- fail (printf "%s would scale on CPU, which a busy engine uses up whatever the load, and one on GPUs hardly uses: set autoscaling.signals: [{type: external, metric: signet_gateway_in_flight, target: \"16\"}] (docs/guides/deploy.md, Scaling)" $where) -}}
{{- end -}}
{{- $cores := mulf $gateway.workers 1000 -}}
{{- $request := include "signet.millicores" $gateway.resources.requests -}}
{{- if and (eq .type "cpu") (lt (float64 $request) (float64 $cores)) -}}
{{- fail (printf "the gateway would scale out while its %d worker(s) are mostly idle, since its CPU request is %s: set gateway.resources.requests.cpu to %q, a core for each worker" (int $gateway.workers) (toString ($gateway.resources.requests.cpu | default 0)) (toString $gateway.workers)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and (eq .component "engine") (not .values.model) (gt (int .values.gpus) 0) -}}
{{- fail (printf "%s has GPUs and no model: the embedded model is in the CPU engine's image only; set model" $where) -}}
{{- end -}}
{{- if and (eq (toString .values.rollout.maxSurge) "0") (eq (toString .values.rollout.maxUnavailable) "0") -}}
{{- fail (printf "%s: rollout.maxSurge and rollout.maxUnavailable are both 0, so that no update could ever happen: raise one" $where) -}}
{{- end -}}
{{- end -}}
{{- if not (or .Values.engines $gateway.externalEngines) -}}
{{- fail "the gateway has no engine: name a pool in engines, or a URL in gateway.externalEngines" -}}
{{- end -}}
{{- range $section, $value := dict "marks" "keyring" "receipts" "keys" "ledger" "url" "limits" "url" "engineKey" "key" "huggingFace" "token" -}}
{{- $values := index $.Values $section -}}
{{- if and (index $values $value) $values.existingSecret -}}
{{- fail (printf "%s.%s and %s.existingSecret are both set: keep one" $section $value $section) -}}
{{- end -}}
{{- end -}}
{{- if and $gateway.httpRoute.enabled (not $gateway.httpRoute.parentRefs) -}}
{{- fail "gateway.httpRoute belongs to no Gateway: name one in gateway.httpRoute.parentRefs" -}}
{{- end -}}
{{- if and .Values.registry.trustedKeys .Values.registry.trustedKeysConfigMap -}}
{{- fail "registry.trustedKeys and registry.trustedKeysConfigMap are both set: keep one" -}}
{{- end -}}
{{- if dig "identity" "limits_url" "" .Values.config -}}
{{- fail "config.identity.limits_url would show a password in a ConfigMap: use limits.url or limits.existingSecret" -}}
{{- end -}}
{{- $spills := eq "spill" (dig "ledger" "when_unavailable" "" .Values.config) -}}
{{- range $gateway.extraEnv -}}
{{- if and (eq .name "SIGNET_LEDGER__WHEN_UNAVAILABLE") (eq "spill" (toString .value)) -}}
{{- $spills = true -}}
{{- end -}}
{{- end -}}
{{- if and $spills (include "signet.sharedLedger" .) -}}
{{- fail "ledger.when_unavailable: spill would lose records: replicas that share a database have no volume of their own, and the journal would go with its pod. Leave it at refuse" -}}
{{- end -}}
{{- if dig "gateway" "engine_api_key" "" .Values.config -}}
{{- fail "config.gateway.engine_api_key would show the engines' key in a ConfigMap: use engineKey.key or engineKey.existingSecret" -}}
{{- end -}}
{{- range list "url" "read_url" -}}
{{- if dig "database" . "" $.Values.config -}}
{{- fail (printf "config.database.%s would show the database's password in a ConfigMap: use ledger.%s or ledger.existingSecret" . (camelcase . | untitle)) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.ledger.readUrl (not .Values.ledger.url) -}}
{{- fail "ledger.readUrl stands beside ledger.url alone: put it into the Secret of ledger.existingSecret, under the key readUrl" -}}
{{- end -}}
{{- end }}
