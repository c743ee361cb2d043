variable "stack" {
  description = "Name of the stack, as LambdaExecutor takes it"
  type        = string
  default     = "lambdamr"
}

variable "zip" {
  description = "The zip that `lambdamr package` wrote"
  type        = string
  default     = "lambdamr.zip"
}

variable "template" {
  description = "What `lambdamr template` printed; by default the template beside this module"
  type        = string
  default     = null
}

variable "lambdamr_version" {
  description = "The version of lambdamr in the zip; jobs are started with the same"
  type        = string
}

variable "python" {
  description = "Minor version of Python of the functions; jobs are started with the same"
  type        = string
}

variable "architecture" {
  description = "x86_64 or arm64, as it was said to `lambdamr package`"
  type        = string
  default     = "x86_64"
}

variable "memory" {
  description = "MB of each function, ascending, four at most; 1769 is one vCPU"
  type        = list(number)
  default     = [1769]

  validation {
    condition     = length(var.memory) >= 1 && length(var.memory) <= 4
    error_message = "One to four functions."
  }
}

variable "storage" {
  description = "MB of /tmp"
  type        = number
  default     = 512
}

variable "timeout" {
  description = "Seconds that a task may take"
  type        = number
  default     = 900
}

variable "secrets" {
  description = "ARNs of secrets and SSM parameters that mappers may read"
  type        = list(string)
  default     = []
}

variable "policies" {
  description = "ARNs of managed policies that mappers need"
  type        = list(string)
  default     = []
}
