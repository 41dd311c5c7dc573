{{- define "event-forwarder.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "event-forwarder.fullname" -}}
{{- $name := include "event-forwarder.name" . }}
{{- $both := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) }}
{{- .Values.fullnameOverride | default $both | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- /* The component label excludes runs: they have the same name, and possibly the same instance. */}}
{{- define "event-forwarder.selectorLabels" -}}
app.kubernetes.io/name: {{ include "event-forwarder.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: controller
{{- end }}

{{- /* As a label selector for kubectl. */}}
{{- define "event-forwarder.selector" -}}
{{- printf "app.kubernetes.io/instance=%s,app.kubernetes.io/component=controller" .Release.Name }}
{{- end }}

{{- define "event-forwarder.labels" -}}
{{ include "event-forwarder.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "event-forwarder.image" -}}
{{- $repository := .Values.image.repository | required "image.repository is not set, and the chart has no default image: add --set image.repository=registry.example.com/event-forwarder with the repository that you pushed the image to" }}
{{- with .Values.image }}
{{- if .digest }}
{{- printf "%s@%s" $repository .digest }}
{{- else }}
{{- printf "%s:%s" $repository (.tag | default $.Chart.AppVersion) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "event-forwarder.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- .Values.serviceAccount.name | default (include "event-forwarder.fullname" .) }}
{{- else }}
{{- .Values.serviceAccount.name | default "" | required "serviceAccount.create is false, so serviceAccount.name must be set to the ServiceAccount to use" }}
{{- end }}
{{- end }}
