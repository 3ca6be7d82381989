{{/* The pod template of a component. Argument: (dict "root" $ "it" COMPONENT "configMap" NAME). */}}
{{- define "signet.podTemplate" -}}
{{- $values := .root.Values -}}
{{- if eq .it.component "gateway" -}}
{{- include "signet.pod" (merge (dict
  "alive" "/healthz" "ready" "/readyz"
  "args" (include "signet.gatewayArgs" .root | fromYamlArray)
  "env" (include "signet.gatewayEnv" .root | fromYamlArray)
  "volumes" (include "signet.gatewayVolumes" .root | fromYamlArray)
  "mounts" (include "signet.gatewayMounts" .root | fromYamlArray)
  "secrets" (compact (list $values.ledger.url $values.ledger.readUrl $values.limits.url $values.engineKey.key))
) .) }}
{{- else -}}
{{- include "signet.pod" (merge (dict
  "alive" "/health" "ready" "/health"
  "args" (include "signet.engineArgs" .it.values | fromYamlArray)
  "env" (include "signet.engineEnv" . | fromYamlArray)
  "volumes" (include "signet.engineVolumes" . | fromYamlArray)
  "mounts" (include "signet.engineMounts" . | fromYamlArray)
  "secrets" (list $values.engineKey.key $values.huggingFace.token)
) .) }}
{{- end }}
{{- end }}

{{/*
The pod of a component: the only place where security, probes, lifecycle and scheduling are written.
Argument: a dict of
  root, it        the chart's root, and the component as `signet.components` makes it
  args            list: the program's arguments
  env             list: environment variables besides the common ones
  volumes, mounts lists: besides /tmp and the configuration
  secrets         list: values from the chart's own Secrets; a change of one rolls the pods
  configMap       name of the ConfigMap with its settings
  alive, ready    paths of the liveness and the readiness probe
*/}}
{{- define "signet.pod" -}}
{{- $values := .it.values -}}
metadata:
  labels:
    {{- include "signet.componentSelector" (dict "root" .root "it" .it) | nindent 4 }}
    {{- with omit (merge (dict) $values.podLabels .root.Values.labels) "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" "signet/pool" }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    # A changed secret of the chart that pods read at their start rolls them; a change of a Secret made elsewhere does not.
    checksum/secrets: {{ join "/" .secrets | sha256sum }}
    {{- with $values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "signet.serviceAccount" .root }}
  automountServiceAccountToken: {{ include "signet.asksKubernetes" . | default "false" }}
  # Service links would put SIGNET_GATEWAY_PORT=tcp://… into the environment, an unknown setting.
  enableServiceLinks: false
  {{- with .root.Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with $values.runtimeClassName }}
  runtimeClassName: {{ . }}
  {{- end }}
  # The kubelet's clock starts before preStop: all phases must fit, and a margin to write the last records.
  terminationGracePeriodSeconds: {{ add $values.preStopSeconds $values.drainSeconds 15 (include "signet.drainDelay" . | int) }}
  {{- include "signet.podSecurity" . | nindent 2 }}
  containers:
    - name: {{ .it.component }}
      image: {{ include "signet.image" . }}
      imagePullPolicy: {{ $values.image.pullPolicy }}
      args:
        {{- toYaml .args | nindent 8 }}
      env:
        # Variables, not arguments: `kubectl exec … signet keys create` then reads the same settings.
        - {name: SIGNET_HOME, value: /var/lib/signet}
        - {name: SIGNET_CONFIG, value: /etc/signet/signet.yaml}
        # The root file system is read-only: programs that look for a home or a cache find these.
        - {name: HOME, value: /tmp}
        - {name: USER, value: signet}
        {{- with .root.Values.telemetry.otlpEndpoint }}
        - {name: OTEL_EXPORTER_OTLP_ENDPOINT, value: {{ . | quote }}}
        {{- end }}
        {{- with .env }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
        {{- with $values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - {name: http, containerPort: {{ .it.port }}, protocol: TCP}
      {{- include "signet.probes" . | nindent 6 }}
      lifecycle:
        # Keeps answering until the Service's endpoints have forgotten this pod.
        preStop:
          sleep: {seconds: {{ $values.preStopSeconds }}}
      resources:
        {{- include "signet.resources" $values | nindent 8 }}
      securityContext:
        {{- include "signet.containerSecurity" . | nindent 8 }}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
        - {name: config, mountPath: /etc/signet, readOnly: true}
        {{- toYaml (concat .mounts $values.extraVolumeMounts) | nindent 8 }}
  volumes:
    - {name: tmp, emptyDir: {}}
    - {name: config, configMap: {name: {{ .configMap }}}}
    {{- toYaml (concat .volumes $values.extraVolumes) | nindent 4 }}
  {{- with include "signet.scheduling" . | trim }}
  {{- . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* A pod's user, and the containers that run before its own. Argument: (dict "root" $ "it" COMPONENT). */}}
{{- define "signet.podSecurity" -}}
securityContext:
  runAsNonRoot: true
  {{- with .root.Values.user }}
  runAsUser: {{ int64 . }}
  runAsGroup: {{ int64 . }}
  fsGroup: {{ int64 . }}
  {{- end }}
  # Without it every start changes the owner of every file of a large registry.
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .it.values.initContainers }}
initContainers:
  {{- range . }}
  - {{ mergeOverwrite (dict "securityContext" (include "signet.containerSecurity" $ | fromYaml)) (deepCopy .) | toYaml | nindent 4 | trim }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "signet.containerSecurity" -}}
allowPrivilegeEscalation: false
privileged: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* Only the process being up keeps a pod alive: a slow load is the startup probe's business alone. */}}
{{- define "signet.probes" -}}
{{- $period := 5 -}}
{{- $scheme := include "signet.scheme" . | upper -}}
startupProbe:
  httpGet: {path: {{ .alive }}, port: http, scheme: {{ $scheme }}}
  periodSeconds: {{ $period }}
  timeoutSeconds: 5
  failureThreshold: {{ divf .it.values.startupSeconds $period | ceil | int }}
readinessProbe:
  httpGet: {path: {{ .ready }}, port: http, scheme: {{ $scheme }}}
  periodSeconds: {{ $period }}
  timeoutSeconds: 5
  failureThreshold: 2
livenessProbe:
  httpGet: {path: {{ .alive }}, port: http, scheme: {{ $scheme }}}
  periodSeconds: 10
  # Patient: a saturated server answers late, and killing it makes everything worse.
  timeoutSeconds: 10
  failureThreshold: 6
{{- end }}

{{- define "signet.image" -}}
{{- $image := .it.values.image -}}
{{- $repository := $image.repository -}}
{{- if not $repository -}}
{{- $repository = ternary "signet-engine-gpu" "signet-engine-cpu" (gt (int .it.values.gpus) 0) -}}
{{- end -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $repository $image.digest | quote }}
{{- else -}}
{{- printf "%s:%s" $repository ($image.tag | default .root.Chart.AppVersion) | quote }}
{{- end }}
{{- end }}

{{/* A pool's GPUs are a limit under the device plugin's name. Argument: the component's values. */}}
{{- define "signet.resources" -}}
{{- $resources := deepCopy .resources -}}
{{- if gt (int (.gpus | default 0)) 0 -}}
{{- $limits := set ($resources.limits | default dict) .gpuResource (int .gpus) -}}
{{- $resources = set $resources "limits" $limits -}}
{{- end -}}
{{- toYaml $resources }}
{{- end }}

{{- define "signet.scheduling" -}}
{{- $values := .it.values -}}
{{- if ne $values.topologySpread "Disabled" }}
topologySpreadConstraints:
  {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: {{ $values.topologySpread }}
    labelSelector:
      matchLabels:
        {{- include "signet.componentSelector" (dict "root" $.root "it" $.it) | nindent 8 }}
    # Else GPU nodes, which a taint keeps the gateway off, would count as empty, and nothing more be placed elsewhere.
    nodeTaintsPolicy: Honor
    # Counts a rollout's new pods alone, so that the old ones do not push them onto one node.
    matchLabelKeys: [pod-template-hash]
  {{- end }}
{{- end }}
{{- include "signet.placement" $values }}
{{- end }}

{{/* Onto which nodes. Argument: the component's values. */}}
{{- define "signet.placement" -}}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
