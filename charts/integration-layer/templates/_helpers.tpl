{{- define "integration-layer.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* The prefix of all names; 40 characters leave room for "-dispatcher" and what Kubernetes appends. */}}
{{- define "integration-layer.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "integration-layer.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What pods are selected by. Takes (dict "root" $ "component" "operator"), as all below do. */}}
{{- define "integration-layer.selectorLabels" -}}
app.kubernetes.io/name: {{ include "integration-layer.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "integration-layer.labels" -}}
{{ include "integration-layer.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: integration-layer
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Labels of pods: nothing in them changes with the chart's version alone, so that an upgrade restarts no pod in vain. */}}
{{- define "integration-layer.podLabels" -}}
{{ include "integration-layer.selectorLabels" . }}
app.kubernetes.io/part-of: integration-layer
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- with (index .root.Values .component).podLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "integration-layer.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository (default .Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}

{{/* Where a pod may run, and as whom: the restricted Pod Security Standard. */}}
{{- define "integration-layer.podSettings" -}}
{{- $values := index .root.Values .component -}}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
enableServiceLinks: false
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if $values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- $selector := dict "matchLabels" (include "integration-layer.selectorLabels" . | fromYaml) }}
  {{- range $values.topologySpreadConstraints }}
  - {{ toYaml (merge (deepCopy .) (dict "labelSelector" $selector)) | nindent 4 | trim }}
  {{- end }}
{{- end }}
volumes:
  - name: tmp
    emptyDir: {sizeLimit: 64Mi}
  {{- if ne .component "migrations" }}
  - name: database
    secret:
      {{- $reference := (index .root.Values.database .component).urlFrom }}
      secretName: {{ $reference.name }}
      defaultMode: 0440
      items:
        - {key: {{ $reference.key }}, path: url}
  {{- end }}
  {{- if and (eq .component "operator") .root.Values.oauth.keysSecret }}
  - name: oauth-keys
    secret:
      secretName: {{ .root.Values.oauth.keysSecret }}
      defaultMode: 0440
  {{- end }}
{{- end -}}

{{/* What every container has in common. */}}
{{- define "integration-layer.containerSettings" -}}
image: {{ include "integration-layer.image" .root }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
resources:
  {{- toYaml (index .root.Values .component).resources | nindent 2 }}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
  {{- if ne .component "migrations" }}
  - {name: database, mountPath: /etc/integrations/database, readOnly: true}
  {{- end }}
  {{- if and (eq .component "operator") .root.Values.oauth.keysSecret }}
  - {name: oauth-keys, mountPath: /etc/integrations/oauth-keys, readOnly: true}
  {{- end }}
{{- end -}}

{{/* What every program that stays up is told. The file is read anew for each connection: a password may change. */}}
{{- define "integration-layer.programEnv" -}}
- {name: INTEGRATIONS_DATABASE_URL_FILE, value: /etc/integrations/database/url}
- name: INTEGRATIONS_HEALTH_HOST
  valueFrom:
    fieldRef: {fieldPath: status.podIP}
- {name: INTEGRATIONS_HEALTH_PORT, value: "8080"}
- {name: INTEGRATIONS_LOG_LEVEL, value: {{ .root.Values.logLevel }}}
{{- end -}}

{{- define "integration-layer.healthProbes" -}}
ports:
  - {name: health, containerPort: 8080}
startupProbe:
  httpGet: {path: /healthz, port: health}
  periodSeconds: 2
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /healthz, port: health}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: health}
  periodSeconds: 5
  timeoutSeconds: 5
{{- end -}}
