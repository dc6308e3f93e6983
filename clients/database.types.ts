// Written by `make types` from supabase/migrations; do not edit.

export type Json = string | number | boolean | null | { [key: string]: Json | undefined } | Json[];

export type Database = {
  public: {
    Tables: {
      admin_logs: {
        Row: {
          action: string;
          actor_id: string | null;
          admin_user_id: string | null;
          created_at: string;
          details: Json | null;
          id: string;
          ip_address: unknown;
          target_id: string | null;
          target_type: string | null;
          target_user_id: string | null;
          user_agent: string | null;
        };
        ComputedFields: never;
        Insert: {
          action: string;
          actor_id?: string | null;
          admin_user_id?: string | null;
          created_at?: string;
          details?: Json | null;
          id?: string;
          ip_address?: unknown;
          target_id?: string | null;
          target_type?: string | null;
          target_user_id?: string | null;
          user_agent?: string | null;
        };
        Update: {
          action?: string;
          actor_id?: string | null;
          admin_user_id?: string | null;
          created_at?: string;
          details?: Json | null;
          id?: string;
          ip_address?: unknown;
          target_id?: string | null;
          target_type?: string | null;
          target_user_id?: string | null;
          user_agent?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: "admin_logs_admin_user_id_fkey";
            columns: ["admin_user_id"];
            isOneToOne: false;
            referencedRelation: "profiles";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "admin_logs_admin_user_id_fkey";
            columns: ["admin_user_id"];
            isOneToOne: false;
            referencedRelation: "user_analytics";
            referencedColumns: ["id"];
          },
        ];
      };
      api_costs: {
        Row: {
          api_provider: string;
          cost_per_operation: number;
          created_at: string;
          currency: string;
          effective_date: string;
          id: string;
          is_active: boolean;
          operation_type: string;
        };
        ComputedFields: never;
        Insert: {
          api_provider: string;
          cost_per_operation: number;
          created_at?: string;
          currency?: string;
          effective_date: string;
          id?: string;
          is_active?: boolean;
          operation_type: string;
        };
        Update: {
          api_provider?: string;
          cost_per_operation?: number;
          created_at?: string;
          currency?: string;
          effective_date?: string;
          id?: string;
          is_active?: boolean;
          operation_type?: string;
        };
        Relationships: [];
      };
      api_usage_logs: {
        Row: {
          api_provider: string;
          cost: number | null;
          created_at: string;
          error_message: string | null;
          id: string;
          model: string | null;
          operation_id: string | null;
          operation_type: string;
          request_data: Json | null;
          response_data: Json | null;
          response_time: number | null;
          status_code: number | null;
          user_id: string;
        };
        ComputedFields: never;
        Insert: {
          api_provider: string;
          cost?: number | null;
          created_at?: string;
          error_message?: string | null;
          id?: string;
          model?: string | null;
          operation_id?: string | null;
          operation_type: string;
          request_data?: Json | null;
          response_data?: Json | null;
          response_time?: number | null;
          status_code?: number | null;
          user_id: string;
        };
        Update: {
          api_provider?: string;
          cost?: number | null;
          created_at?: string;
          error_message?: string | null;
          id?: string;
          model?: string | null;
          operation_id?: string | null;
          operation_type?: string;
          request_data?: Json | null;
          response_data?: Json | null;
          response_time?: number | null;
          status_code?: number | null;
          user_id?: string;
        };
        Relationships: [
          {
            foreignKeyName: "api_usage_logs_operation_id_fkey";
            columns: ["operation_id"];
            isOneToOne: false;
            referencedRelation: "image_operations";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "api_usage_logs_user_id_fkey";
            columns: ["user_id"];
            isOneToOne: false;
            referencedRelation: "profiles";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "api_usage_logs_user_id_fkey";
            columns: ["user_id"];
            isOneToOne: false;
            referencedRelation: "user_analytics";
            referencedColumns: ["id"];
          },
        ];
      };
      billing_invoices: {
        Row: {
          amount_due: number;
          amount_paid: number;
          attempts: number;
          created_at: string;
          currency: string;
          failed_attempt: number | null;
          hosted_url: string | null;
          id: string;
          next_attempt_at: string | null;
          paid_at: string | null;
          period_end: string | null;
          reason: string;
          status: string;
          stripe_subscription_id: string;
          subscription_plan_id: string | null;
          trouble: string | null;
          user_id: string;
        };
        ComputedFields: never;
        Insert: {
          amount_due: number;
          amount_paid: number;
          attempts: number;
          created_at: string;
          currency: string;
          failed_attempt?: number | null;
          hosted_url?: string | null;
          id: string;
          next_attempt_at?: string | null;
          paid_at?: string | null;
          period_end?: string | null;
          reason: string;
          status: string;
          stripe_subscription_id: string;
          subscription_plan_id?: string | null;
          trouble?: string | null;
          user_id: string;
        };
        Update: {
          amount_due?: number;
          amount_paid?: number;
          attempts?: number;
          created_at?: string;
          currency?: string;
          failed_attempt?: number | null;
          hosted_url?: string | null;
          id?: string;
          next_attempt_at?: string | null;
          paid_at?: string | null;
          period_end?: string | null;
          reason?: string;
          status?: string;
          stripe_subscription_id?: string;
          subscription_plan_id?: string | null;
          trouble?: string | null;
          user_id?: string;
        };
        Relationships: [
          {
            foreignKeyName: "billing_invoices_subscription_plan_id_fkey";
            columns: ["subscription_plan_id"];
            isOneToOne: false;
            referencedRelation: "subscription_plans";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "billing_invoices_user_id_fkey";
            columns: ["user_id"];
            isOneToOne: false;
            referencedRelation: "profiles";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "billing_invoices_user_id_fkey";
            columns: ["user_id"];
            isOneToOne: false;
            referencedRelation: "user_analytics";
            referencedColumns: ["id"];
          },
        ];
      };
      billing_orders: {
        Row: {
          amount: number | null;
          closed_at: string | null;
          created_at: string;
          credits: number | null;
          currency: string | null;
          id: string;
          pay_as_you_go_package_id: string | null;
          receipt_url: string | null;
          status: string;
          stripe_checkout_session_id: string | null;
          stripe_price_id: string;
          subscription_plan_id: string | null;
          trial_days: number;
          user_id: string;
        };
        ComputedFields: never;
        Insert: {
          amount?: number | null;
          closed_at?: string | null;
          created_at?: string;
          credits?: number | null;
          currency?: string | null;
          id?: string;
          pay_as_you_go_package_id?: string | null;
          receipt_url?: string | null;
          status?: string;
          stripe_checkout_session_id?: string | null;
          stripe_price_id: string;
          subscription_plan_id?: string | null;
          trial_days?: number;
          user_id: string;
        };
        Update: {
          amount?: number | null;
          closed_at?: string | null;
          created_at?: string;
          credits?: number | null;
          currency?: string | null;
          id?: string;
          pay_as_you_go_package_id?: string | null;
          receipt_url?: string | null;
          status?: string;
          stripe_checkout_session_id?: string | null;
          stripe_price_id?: string;
          subscription_plan_id?: string | null;
          trial_days?: number;
          user_id?: string;
        };
        Relationships: [
          {
            foreignKeyName: "billing_orders_pay_as_you_go_package_id_fkey";
            columns: ["pay_as_you_go_package_id"];
            isOneToOne: false;
            referencedRelation: "pay_as_you_go_packages";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "billing_orders_subscription_plan_id_fkey";
            columns: ["subscription_plan_id"];
            isOneToOne: false;
            referencedRelation: "subscription_plans";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "billing_orders_user_id_fkey";
            columns: ["user_id"];
            isOneToOne: false;
            referencedRelation: "profiles";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "billing_orders_user_id_fkey";
            columns: ["user_id"];
            isOneToOne: false;
            referencedRelation: "user_analytics";
            referencedColumns: ["id"];
          },
        ];
      };
      catalogue_settings: {
        Row: {
          currency: string;
          name: string;
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          currency?: string;
          name?: string;
          updated_at?: string;
        };
        Update: {
          currency?: string;
          name?: string;
          updated_at?: string;
        };
        Relationships: [];
      };
      closed_account_totals: {
        Row: {
          credits: number;
          currency: string | null;
          id: string;
          money_amount: number;
          month: string;
          paid_transactions: number;
          pay_as_you_go_package_id: string | null;
          subscription_plan_id: string | null;
          transaction_count: number;
          transaction_type: string;
        };
        ComputedFields: never;
        Insert: {
          credits?: number;
          currency?: string | null;
          id?: string;
          money_amount?: number;
          month: string;
          paid_transactions?: number;
          pay_as_you_go_package_id?: string | null;
          subscription_plan_id?: string | null;
          transaction_count?: number;
          transaction_type: string;
        };
        Update: {
          credits?: number;
          currency?: string | null;
          id?: string;
          money_amount?: number;
          month?: string;
          paid_transactions?: number;
          pay_as_you_go_package_id?: string | null;
          subscription_plan_id?: string | null;
          transaction_count?: number;
          transaction_type?: string;
        };
        Relationships: [
          {
            foreignKeyName: "closed_account_totals_pay_as_you_go_package_id_fkey";
            columns: ["pay_as_you_go_package_id"];
            isOneToOne: false;
            referencedRelation: "pay_as_you_go_packages";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "closed_account_totals_subscription_plan_id_fkey";
            columns: ["subscription_plan_id"];
            isOneToOne: false;
            referencedRelation: "subscription_plans";
            referencedColumns: ["id"];
          },
        ];
      };
      credit_clawbacks: {
        Row: {
          amount: number;
          created_at: string;
          currency: string | null;
          expired: number;
          grant_id: string;
          id: string;
          idempotency_key: string | null;
          money_amount: number | null;
          owed: number;
          reason: string;
          reversal_key: string | null;
          reversal_reason: string | null;
          reversed_at: string | null;
          user_id: string;
        };
        ComputedFields: never;
        Insert: {
          amount: number;
          created_at?: string;
          currency?: string | null;
          expired: number;
          grant_id: string;
          id?: string;
          idempotency_key?: string | null;
          money_amount?: number | null;
          owed: number;
          reason: string;
          reversal_key?: string | null;
          reversal_reason?: string | null;
          reversed_at?: string | null;
          user_id: string;
        };
        Update: {
          amount?: number;
          created_at?: string;
          currency?: string | null;
          expired?: number;
          grant_id?: string;
          id?: string;
          idempotency_key?: string | null;
          money_amount?: number | null;
          owed?: number;
          reason?: string;
          reversal_key?: string | null;
          reversal_reason?: string | null;
          reversed_at?: string | null;
          user_id?: string;
        };
        Relationships: [
          {
            foreignKeyName: "credit_clawbacks_grant_id_fkey";
            columns: ["grant_id"];
            isOneToOne: false;
            referencedRelation: "credit_grants";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "credit_clawbacks_user_id_fkey";
            columns: ["user_id"];
            isOneToOne: false;
            referencedRelation: "profiles";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "credit_clawbacks_user_id_fkey";
            columns: ["user_id"];
            isOneToOne: false;
            referencedRelation: "user_analytics";
            referencedColumns: ["id"];
          },
        ];
      };
      credit_grants: {
        Row: {
          amount: number;
          created_at: string;
          currency: string | null;
          expires_at: string | null;
          id: string;
          is_spent: boolean;
          money_amount: number | null;
          priority: number;
          remaining: number;
          seq: number;
          source: string;
          transaction_id: string;
          user_id: string;
        };
        ComputedFields: never;
        Insert: {
          amount: number;
          created_at?: string;
          currency?: string | null;
          expires_at?: string | null;
          id?: string;
          is_spent?: boolean;
          money_amount?: number | null;
          priority?: number;
          remaining: number;
          seq: number;
          source: string;
          transaction_id: string;
          user_id: string;
        };
        Update: {
          amount?: number;
          created_at?: string;
          currency?: string | null;
          expires_at?: string | null;
          id?: string;
          is_spent?: boolean;
          money_amount?: number | null;
          priority?: number;
          remaining?: number;
          seq?: number;
          source?: string;
          transaction_id?: string;
          user_id?: string;
        };
        Relationships: [
          {
            foreignKeyName: "credit_grants_transaction_id_fkey";
            columns: ["transaction_id"];
            isOneToOne: true;
            referencedRelation: "credit_allocations";
            referencedColumns: ["transaction_id"];
          },
          {
            foreignKeyName: "credit_grants_transaction_id_fkey";
            columns: ["transaction_id"];
            isOneToOne: true;
            referencedRelation: "credit_transactions";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "credit_grants_user_id_fkey";
            columns: ["user_id"];
            isOneToOne: false;
            referencedRelation: "profiles";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "credit_grants_user_id_fkey";
            columns: ["user_id"];
            isOneToOne: false;
            referencedRelation: "user_analytics";
            referencedColumns: ["id"];
          },
        ];
      };
      credit_transactions: {
        Row: {
          allocations: Database["public"]["CompositeTypes"]["credit_allocation"][] | null;
          amount: number;
          balance_after: number;
          balance_before: number;
          clawback_id: string | null;
          created_at: string;
          description: string | null;
          expires_at: string | null;
          id: string;
          idempotency_key: string | null;
          metadata: Json | null;
          pay_as_you_go_package_id: string | null;
          refunded_transaction_id: string | null;
          seq: number;
          stripe_payment_intent_id: string | null;
          subscription_plan_id: string | null;
          transaction_type: string;
          user_id: string;
        };
        ComputedFields: never;
        Insert: {
          allocations?: Database["public"]["CompositeTypes"]["credit_allocation"][] | null;
          amount: number;
          balance_after: number;
          balance_before: number;
          clawback_id?: string | null;
          created_at?: string;
          description?: string | null;
          expires_at?: string | null;
          id?: string;
          idempotency_key?: string | null;
          metadata?: Json | null;
          pay_as_you_go_package_id?: string | null;
          refunded_transaction_id?: string | null;
          seq: number;
          stripe_payment_intent_id?: string | null;
          subscription_plan_id?: string | null;
          transaction_type: string;
          user_id: string;
        };
        Update: {
          allocations?: Database["public"]["CompositeTypes"]["credit_allocation"][] | null;
          amount?: number;
          balance_after?: number;
          balance_before?: number;
          clawback_id?: string | null;
          created_at?: string;
          description?: string | null;
          expires_at?: string | null;
          id?: string;
          idempotency_key?: string | null;
          metadata?: Json | null;
          pay_as_you_go_package_id?: string | null;
          refunded_transaction_id?: string | null;
          seq?: number;
          stripe_payment_intent_id?: string | null;
          subscription_plan_id?: string | null;
          transaction_type?: string;
          user_id?: string;
        };
        Relationships: [
          {
            foreignKeyName: "credit_transactions_clawback_id_fkey";
            columns: ["clawback_id"];
            isOneToOne: false;
            referencedRelation: "credit_clawbacks";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "credit_transactions_pay_as_you_go_package_id_fkey";
            columns: ["pay_as_you_go_package_id"];
            isOneToOne: false;
            referencedRelation: "pay_as_you_go_packages";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "credit_transactions_refunded_transaction_id_fkey";
            columns: ["refunded_transaction_id"];
            isOneToOne: false;
            referencedRelation: "credit_allocations";
            referencedColumns: ["transaction_id"];
          },
          {
            foreignKeyName: "credit_transactions_refunded_transaction_id_fkey";
            columns: ["refunded_transaction_id"];
            isOneToOne: false;
            referencedRelation: "credit_transactions";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "credit_transactions_subscription_plan_id_fkey";
            columns: ["subscription_plan_id"];
            isOneToOne: false;
            referencedRelation: "subscription_plans";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "credit_transactions_user_id_fkey";
            columns: ["user_id"];
            isOneToOne: false;
            referencedRelation: "profiles";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "credit_transactions_user_id_fkey";
            columns: ["user_id"];
            isOneToOne: false;
            referencedRelation: "user_analytics";
            referencedColumns: ["id"];
          },
        ];
      };
      email_campaigns: {
        Row: {
          cancelled_at: string | null;
          created_at: string;
          emails_per_minute: number;
          expanded_at: string | null;
          expanded_to: string | null;
          id: string;
          name: string;
          next_email_at: string | null;
          scheduled_at: string | null;
          sent_at: string | null;
          started_at: string | null;
          status: string;
          target_audience: Json | null;
          template_id: string | null;
        };
        ComputedFields: never;
        Insert: {
          cancelled_at?: string | null;
          created_at?: string;
          emails_per_minute?: number;
          expanded_at?: string | null;
          expanded_to?: string | null;
          id?: string;
          name: string;
          next_email_at?: string | null;
          scheduled_at?: string | null;
          sent_at?: string | null;
          started_at?: string | null;
          status?: string;
          target_audience?: Json | null;
          template_id?: string | null;
        };
        Update: {
          cancelled_at?: string | null;
          created_at?: string;
          emails_per_minute?: number;
          expanded_at?: string | null;
          expanded_to?: string | null;
          id?: string;
          name?: string;
          next_email_at?: string | null;
          scheduled_at?: string | null;
          sent_at?: string | null;
          started_at?: string | null;
          status?: string;
          target_audience?: Json | null;
          template_id?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: "email_campaigns_template_id_fkey";
            columns: ["template_id"];
            isOneToOne: false;
            referencedRelation: "email_templates";
            referencedColumns: ["id"];
          },
        ];
      };
      email_events: {
        Row: {
          email_log_id: string;
          event_type: string;
          occurred_at: string;
          received_at: string;
          sg_event_id: string;
        };
        ComputedFields: never;
        Insert: {
          email_log_id: string;
          event_type: string;
          occurred_at: string;
          received_at?: string;
          sg_event_id: string;
        };
        Update: {
          email_log_id?: string;
          event_type?: string;
          occurred_at?: string;
          received_at?: string;
          sg_event_id?: string;
        };
        Relationships: [
          {
            foreignKeyName: "email_events_email_log_id_fkey";
            columns: ["email_log_id"];
            isOneToOne: false;
            referencedRelation: "email_logs";
            referencedColumns: ["id"];
          },
        ];
      };
      email_logs: {
        Row: {
          attempts: number;
          campaign_id: string | null;
          clicked_at: string | null;
          created_at: string;
          data: NonNullable<Json>;
          dedupe_key: string;
          delivered_at: string | null;
          error: string | null;
          id: string;
          lease_expires_at: string | null;
          lease_token: string | null;
          next_attempt_at: string;
          opened_at: string | null;
          recipient: string | null;
          sendgrid_message_id: string | null;
          sent_at: string | null;
          status: string;
          template_id: string | null;
          user_id: string | null;
        };
        ComputedFields: never;
        Insert: {
          attempts?: number;
          campaign_id?: string | null;
          clicked_at?: string | null;
          created_at?: string;
          data?: NonNullable<Json>;
          dedupe_key?: string;
          delivered_at?: string | null;
          error?: string | null;
          id?: string;
          lease_expires_at?: string | null;
          lease_token?: string | null;
          next_attempt_at?: string;
          opened_at?: string | null;
          recipient?: string | null;
          sendgrid_message_id?: string | null;
          sent_at?: string | null;
          status: string;
          template_id?: string | null;
          user_id?: string | null;
        };
        Update: {
          attempts?: number;
          campaign_id?: string | null;
          clicked_at?: string | null;
          created_at?: string;
          data?: NonNullable<Json>;
          dedupe_key?: string;
          delivered_at?: string | null;
          error?: string | null;
          id?: string;
          lease_expires_at?: string | null;
          lease_token?: string | null;
          next_attempt_at?: string;
          opened_at?: string | null;
          recipient?: string | null;
          sendgrid_message_id?: string | null;
          sent_at?: string | null;
          status?: string;
          template_id?: string | null;
          user_id?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: "email_logs_campaign_id_fkey";
            columns: ["campaign_id"];
            isOneToOne: false;
            referencedRelation: "email_campaigns";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "email_logs_template_id_fkey";
            columns: ["template_id"];
            isOneToOne: false;
            referencedRelation: "email_templates";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "email_logs_user_id_fkey";
            columns: ["user_id"];
            isOneToOne: false;
            referencedRelation: "profiles";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "email_logs_user_id_fkey";
            columns: ["user_id"];
            isOneToOne: false;
            referencedRelation: "user_analytics";
            referencedColumns: ["id"];
          },
        ];
      };
      email_suppressions: {
        Row: {
          created_at: string;
          detail: string | null;
          email: string;
          id: string;
          reason: string;
          user_id: string | null;
        };
        ComputedFields: never;
        Insert: {
          created_at?: string;
          detail?: string | null;
          email: string;
          id?: string;
          reason: string;
          user_id?: string | null;
        };
        Update: {
          created_at?: string;
          detail?: string | null;
          email?: string;
          id?: string;
          reason?: string;
          user_id?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: "email_suppressions_user_id_fkey";
            columns: ["user_id"];
            isOneToOne: false;
            referencedRelation: "profiles";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "email_suppressions_user_id_fkey";
            columns: ["user_id"];
            isOneToOne: false;
            referencedRelation: "user_analytics";
            referencedColumns: ["id"];
          },
        ];
      };
      email_templates: {
        Row: {
          created_at: string;
          html_content: string;
          id: string;
          is_active: boolean;
          name: string;
          sendgrid_template_id: string | null;
          subject: string;
          text_content: string | null;
          type: string;
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          created_at?: string;
          html_content: string;
          id?: string;
          is_active?: boolean;
          name: string;
          sendgrid_template_id?: string | null;
          subject: string;
          text_content?: string | null;
          type?: string;
          updated_at?: string;
        };
        Update: {
          created_at?: string;
          html_content?: string;
          id?: string;
          is_active?: boolean;
          name?: string;
          sendgrid_template_id?: string | null;
          subject?: string;
          text_content?: string | null;
          type?: string;
          updated_at?: string;
        };
        Relationships: [
          {
            foreignKeyName: "email_templates_type_fkey";
            columns: ["type"];
            isOneToOne: false;
            referencedRelation: "email_types";
            referencedColumns: ["name"];
          },
        ];
      };
      email_types: {
        Row: {
          category: string;
          description: string;
          name: string;
          sample_data: NonNullable<Json>;
        };
        ComputedFields: never;
        Insert: {
          category: string;
          description: string;
          name: string;
          sample_data: NonNullable<Json>;
        };
        Update: {
          category?: string;
          description?: string;
          name?: string;
          sample_data?: NonNullable<Json>;
        };
        Relationships: [];
      };
      image_collection_items: {
        Row: {
          added_at: string;
          collection_id: string;
          id: string;
          image_id: string;
        };
        ComputedFields: never;
        Insert: {
          added_at?: string;
          collection_id: string;
          id?: string;
          image_id: string;
        };
        Update: {
          added_at?: string;
          collection_id?: string;
          id?: string;
          image_id?: string;
        };
        Relationships: [
          {
            foreignKeyName: "image_collection_items_collection_id_fkey";
            columns: ["collection_id"];
            isOneToOne: false;
            referencedRelation: "image_collections";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "image_collection_items_image_id_fkey";
            columns: ["image_id"];
            isOneToOne: false;
            referencedRelation: "images";
            referencedColumns: ["id"];
          },
        ];
      };
      image_collections: {
        Row: {
          created_at: string;
          description: string | null;
          id: string;
          is_public: boolean;
          name: string;
          updated_at: string;
          user_id: string;
        };
        ComputedFields: never;
        Insert: {
          created_at?: string;
          description?: string | null;
          id?: string;
          is_public?: boolean;
          name: string;
          updated_at?: string;
          user_id?: string;
        };
        Update: {
          created_at?: string;
          description?: string | null;
          id?: string;
          is_public?: boolean;
          name?: string;
          updated_at?: string;
          user_id?: string;
        };
        Relationships: [
          {
            foreignKeyName: "image_collections_user_id_fkey";
            columns: ["user_id"];
            isOneToOne: false;
            referencedRelation: "profiles";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "image_collections_user_id_fkey";
            columns: ["user_id"];
            isOneToOne: false;
            referencedRelation: "user_analytics";
            referencedColumns: ["id"];
          },
        ];
      };
      image_operations: {
        Row: {
          api_cost: number | null;
          api_provider: string;
          attempts: number;
          completed_at: string | null;
          created_at: string;
          credits_refunded: number;
          credits_used: number;
          error_message: string | null;
          id: string;
          idempotency_key: string | null;
          image_id: string;
          input_data: NonNullable<Json>;
          lease_expires_at: string | null;
          lease_token: string | null;
          max_attempts: number;
          operation_type: string;
          options: NonNullable<Json>;
          output_data: Json | null;
          priority: number;
          processing_time: number | null;
          queue_tag: number;
          run_after: string;
          started_at: string | null;
          status: string;
          user_id: string;
          worker_id: string | null;
        };
        ComputedFields: never;
        Insert: {
          api_cost?: number | null;
          api_provider?: string;
          attempts?: number;
          completed_at?: string | null;
          created_at?: string;
          credits_refunded?: number;
          credits_used?: number;
          error_message?: string | null;
          id?: string;
          idempotency_key?: string | null;
          image_id: string;
          input_data?: NonNullable<Json>;
          lease_expires_at?: string | null;
          lease_token?: string | null;
          max_attempts?: number;
          operation_type: string;
          options?: NonNullable<Json>;
          output_data?: Json | null;
          priority?: number;
          processing_time?: number | null;
          queue_tag?: number;
          run_after?: string;
          started_at?: string | null;
          status?: string;
          user_id: string;
          worker_id?: string | null;
        };
        Update: {
          api_cost?: number | null;
          api_provider?: string;
          attempts?: number;
          completed_at?: string | null;
          created_at?: string;
          credits_refunded?: number;
          credits_used?: number;
          error_message?: string | null;
          id?: string;
          idempotency_key?: string | null;
          image_id?: string;
          input_data?: NonNullable<Json>;
          lease_expires_at?: string | null;
          lease_token?: string | null;
          max_attempts?: number;
          operation_type?: string;
          options?: NonNullable<Json>;
          output_data?: Json | null;
          priority?: number;
          processing_time?: number | null;
          queue_tag?: number;
          run_after?: string;
          started_at?: string | null;
          status?: string;
          user_id?: string;
          worker_id?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: "image_operations_image_id_fkey";
            columns: ["image_id"];
            isOneToOne: false;
            referencedRelation: "images";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "image_operations_operation_type_fkey";
            columns: ["operation_type"];
            isOneToOne: false;
            referencedRelation: "operation_types";
            referencedColumns: ["name"];
          },
          {
            foreignKeyName: "image_operations_user_id_fkey";
            columns: ["user_id"];
            isOneToOne: false;
            referencedRelation: "profiles";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "image_operations_user_id_fkey";
            columns: ["user_id"];
            isOneToOne: false;
            referencedRelation: "user_analytics";
            referencedColumns: ["id"];
          },
        ];
      };
      images: {
        Row: {
          created_at: string;
          download_count: number;
          expires_at: string | null;
          final_url: string | null;
          id: string;
          is_favorite: boolean;
          metadata: Json | null;
          original_file_size: number | null;
          original_file_type: string | null;
          original_filename: string;
          original_url: string | null;
          processed_url: string | null;
          processing_error: string | null;
          processing_status: string;
          thumbnail_url: string | null;
          updated_at: string;
          user_id: string;
        };
        ComputedFields: never;
        Insert: {
          created_at?: string;
          download_count?: number;
          expires_at?: string | null;
          final_url?: string | null;
          id?: string;
          is_favorite?: boolean;
          metadata?: Json | null;
          original_file_size?: number | null;
          original_file_type?: string | null;
          original_filename: string;
          original_url?: string | null;
          processed_url?: string | null;
          processing_error?: string | null;
          processing_status?: string;
          thumbnail_url?: string | null;
          updated_at?: string;
          user_id?: string;
        };
        Update: {
          created_at?: string;
          download_count?: number;
          expires_at?: string | null;
          final_url?: string | null;
          id?: string;
          is_favorite?: boolean;
          metadata?: Json | null;
          original_file_size?: number | null;
          original_file_type?: string | null;
          original_filename?: string;
          original_url?: string | null;
          processed_url?: string | null;
          processing_error?: string | null;
          processing_status?: string;
          thumbnail_url?: string | null;
          updated_at?: string;
          user_id?: string;
        };
        Relationships: [
          {
            foreignKeyName: "images_user_id_fkey";
            columns: ["user_id"];
            isOneToOne: false;
            referencedRelation: "profiles";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "images_user_id_fkey";
            columns: ["user_id"];
            isOneToOne: false;
            referencedRelation: "user_analytics";
            referencedColumns: ["id"];
          },
        ];
      };
      operation_types: {
        Row: {
          activity: string;
          created_at: string;
          credits: number;
          daily_cancellations: number;
          daily_failures: number;
          daily_requests: number | null;
          description: string;
          is_active: boolean;
          is_builtin: boolean;
          is_repeatable: boolean;
          may_cost_money: boolean;
          name: string;
          option_names: string[];
          options: NonNullable<Json>;
          required_options: string[];
          result_title: string;
          sort_order: number;
          surcharges: NonNullable<Json>;
          title: string;
          updated_at: string;
          works_on: string;
        };
        ComputedFields: never;
        Insert: {
          activity: string;
          created_at?: string;
          credits: number;
          daily_cancellations?: number;
          daily_failures?: number;
          daily_requests?: number | null;
          description: string;
          is_active?: boolean;
          is_builtin?: boolean;
          is_repeatable?: boolean;
          may_cost_money?: boolean;
          name: string;
          option_names?: string[];
          options?: NonNullable<Json>;
          required_options?: string[];
          result_title: string;
          sort_order?: number;
          surcharges?: NonNullable<Json>;
          title: string;
          updated_at?: string;
          works_on: string;
        };
        Update: {
          activity?: string;
          created_at?: string;
          credits?: number;
          daily_cancellations?: number;
          daily_failures?: number;
          daily_requests?: number | null;
          description?: string;
          is_active?: boolean;
          is_builtin?: boolean;
          is_repeatable?: boolean;
          may_cost_money?: boolean;
          name?: string;
          option_names?: string[];
          options?: NonNullable<Json>;
          required_options?: string[];
          result_title?: string;
          sort_order?: number;
          surcharges?: NonNullable<Json>;
          title?: string;
          updated_at?: string;
          works_on?: string;
        };
        Relationships: [];
      };
      pay_as_you_go_packages: {
        Row: {
          created_at: string;
          credits: number;
          description: string | null;
          id: string;
          is_active: boolean;
          name: string;
          price: number;
          sort_order: number;
          stripe_price_id: string | null;
          stripe_product_id: string | null;
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          created_at?: string;
          credits: number;
          description?: string | null;
          id?: string;
          is_active?: boolean;
          name: string;
          price: number;
          sort_order?: number;
          stripe_price_id?: string | null;
          stripe_product_id?: string | null;
          updated_at?: string;
        };
        Update: {
          created_at?: string;
          credits?: number;
          description?: string | null;
          id?: string;
          is_active?: boolean;
          name?: string;
          price?: number;
          sort_order?: number;
          stripe_price_id?: string | null;
          stripe_product_id?: string | null;
          updated_at?: string;
        };
        Relationships: [];
      };
      profiles: {
        Row: {
          avatar_url: string | null;
          company: string | null;
          created_at: string;
          credit_debt: number;
          credits_remaining: number;
          email: string;
          first_name: string | null;
          id: string;
          is_active: boolean;
          is_admin: boolean;
          last_activity_at: string | null;
          last_name: string | null;
          ledger_version: number;
          marketing_emails: boolean;
          marketing_emails_set_at: string | null;
          notification_emails: boolean;
          phone: string | null;
          stripe_customer_id: string | null;
          stripe_subscription_id: string | null;
          subscription_plan: string;
          subscription_status: string;
          total_credits_purchased: number;
          total_credits_used: number;
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          avatar_url?: string | null;
          company?: string | null;
          created_at?: string;
          credit_debt?: number;
          credits_remaining?: number;
          email: string;
          first_name?: string | null;
          id: string;
          is_active?: boolean;
          is_admin?: boolean;
          last_activity_at?: string | null;
          last_name?: string | null;
          ledger_version?: number;
          marketing_emails?: boolean;
          marketing_emails_set_at?: string | null;
          notification_emails?: boolean;
          phone?: string | null;
          stripe_customer_id?: string | null;
          stripe_subscription_id?: string | null;
          subscription_plan?: string;
          subscription_status?: string;
          total_credits_purchased?: number;
          total_credits_used?: number;
          updated_at?: string;
        };
        Update: {
          avatar_url?: string | null;
          company?: string | null;
          created_at?: string;
          credit_debt?: number;
          credits_remaining?: number;
          email?: string;
          first_name?: string | null;
          id?: string;
          is_active?: boolean;
          is_admin?: boolean;
          last_activity_at?: string | null;
          last_name?: string | null;
          ledger_version?: number;
          marketing_emails?: boolean;
          marketing_emails_set_at?: string | null;
          notification_emails?: boolean;
          phone?: string | null;
          stripe_customer_id?: string | null;
          stripe_subscription_id?: string | null;
          subscription_plan?: string;
          subscription_status?: string;
          total_credits_purchased?: number;
          total_credits_used?: number;
          updated_at?: string;
        };
        Relationships: [];
      };
      set_aside_rows: {
        Row: {
          input: NonNullable<Json>;
          reason: string;
          row_id: string;
          set_aside_at: string;
          sqlstate: string;
          task: string;
          user_id: string | null;
        };
        ComputedFields: never;
        Insert: {
          input: NonNullable<Json>;
          reason: string;
          row_id: string;
          set_aside_at?: string;
          sqlstate: string;
          task: string;
          user_id?: string | null;
        };
        Update: {
          input?: NonNullable<Json>;
          reason?: string;
          row_id?: string;
          set_aside_at?: string;
          sqlstate?: string;
          task?: string;
          user_id?: string | null;
        };
        Relationships: [];
      };
      stripe_customers: {
        Row: {
          created_at: string;
          email: string | null;
          id: string;
          user_id: string;
        };
        ComputedFields: never;
        Insert: {
          created_at?: string;
          email?: string | null;
          id: string;
          user_id: string;
        };
        Update: {
          created_at?: string;
          email?: string | null;
          id?: string;
          user_id?: string;
        };
        Relationships: [
          {
            foreignKeyName: "stripe_customers_user_id_fkey";
            columns: ["user_id"];
            isOneToOne: false;
            referencedRelation: "profiles";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "stripe_customers_user_id_fkey";
            columns: ["user_id"];
            isOneToOne: false;
            referencedRelation: "user_analytics";
            referencedColumns: ["id"];
          },
        ];
      };
      stripe_events: {
        Row: {
          attempts: number;
          error: string | null;
          id: string;
          payload: NonNullable<Json>;
          processed_at: string | null;
          received_at: string;
          status: string;
          type: string;
        };
        ComputedFields: never;
        Insert: {
          attempts?: number;
          error?: string | null;
          id: string;
          payload?: NonNullable<Json>;
          processed_at?: string | null;
          received_at?: string;
          status: string;
          type: string;
        };
        Update: {
          attempts?: number;
          error?: string | null;
          id?: string;
          payload?: NonNullable<Json>;
          processed_at?: string | null;
          received_at?: string;
          status?: string;
          type?: string;
        };
        Relationships: [];
      };
      subscription_history: {
        Row: {
          cancel_at: string | null;
          cancelled_at: string | null;
          created_at: string;
          current_period_end: string | null;
          ended_at: string | null;
          id: string;
          started_at: string;
          status: string;
          stripe_subscription_id: string | null;
          subscription_plan_id: string | null;
          user_id: string;
        };
        ComputedFields: never;
        Insert: {
          cancel_at?: string | null;
          cancelled_at?: string | null;
          created_at?: string;
          current_period_end?: string | null;
          ended_at?: string | null;
          id?: string;
          started_at: string;
          status: string;
          stripe_subscription_id?: string | null;
          subscription_plan_id?: string | null;
          user_id: string;
        };
        Update: {
          cancel_at?: string | null;
          cancelled_at?: string | null;
          created_at?: string;
          current_period_end?: string | null;
          ended_at?: string | null;
          id?: string;
          started_at?: string;
          status?: string;
          stripe_subscription_id?: string | null;
          subscription_plan_id?: string | null;
          user_id?: string;
        };
        Relationships: [
          {
            foreignKeyName: "subscription_history_subscription_plan_id_fkey";
            columns: ["subscription_plan_id"];
            isOneToOne: false;
            referencedRelation: "subscription_plans";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "subscription_history_user_id_fkey";
            columns: ["user_id"];
            isOneToOne: false;
            referencedRelation: "profiles";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "subscription_history_user_id_fkey";
            columns: ["user_id"];
            isOneToOne: false;
            referencedRelation: "user_analytics";
            referencedColumns: ["id"];
          },
        ];
      };
      subscription_plans: {
        Row: {
          created_at: string;
          credit_rollover_months: number | null;
          credits_per_month: number | null;
          description: string | null;
          features: Json | null;
          id: string;
          is_active: boolean;
          monthly_price: number | null;
          name: string;
          sort_order: number;
          stripe_price_id: string | null;
          stripe_product_id: string | null;
          trial_credits: number;
          trial_days: number;
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          created_at?: string;
          credit_rollover_months?: number | null;
          credits_per_month?: number | null;
          description?: string | null;
          features?: Json | null;
          id?: string;
          is_active?: boolean;
          monthly_price?: number | null;
          name: string;
          sort_order?: number;
          stripe_price_id?: string | null;
          stripe_product_id?: string | null;
          trial_credits?: number;
          trial_days?: number;
          updated_at?: string;
        };
        Update: {
          created_at?: string;
          credit_rollover_months?: number | null;
          credits_per_month?: number | null;
          description?: string | null;
          features?: Json | null;
          id?: string;
          is_active?: boolean;
          monthly_price?: number | null;
          name?: string;
          sort_order?: number;
          stripe_price_id?: string | null;
          stripe_product_id?: string | null;
          trial_credits?: number;
          trial_days?: number;
          updated_at?: string;
        };
        Relationships: [];
      };
      system_metrics: {
        Row: {
          id: string;
          metric_name: string;
          metric_unit: string | null;
          metric_value: number | null;
          recorded_at: string;
          tags: Json | null;
        };
        ComputedFields: never;
        Insert: {
          id?: string;
          metric_name: string;
          metric_unit?: string | null;
          metric_value?: number | null;
          recorded_at?: string;
          tags?: Json | null;
        };
        Update: {
          id?: string;
          metric_name?: string;
          metric_unit?: string | null;
          metric_value?: number | null;
          recorded_at?: string;
          tags?: Json | null;
        };
        Relationships: [];
      };
      user_activity_logs: {
        Row: {
          activity_data: Json | null;
          activity_type: string;
          created_at: string;
          id: string;
          ip_address: unknown;
          user_agent: string | null;
          user_id: string;
        };
        ComputedFields: never;
        Insert: {
          activity_data?: Json | null;
          activity_type: string;
          created_at?: string;
          id?: string;
          ip_address?: unknown;
          user_agent?: string | null;
          user_id: string;
        };
        Update: {
          activity_data?: Json | null;
          activity_type?: string;
          created_at?: string;
          id?: string;
          ip_address?: unknown;
          user_agent?: string | null;
          user_id?: string;
        };
        Relationships: [
          {
            foreignKeyName: "user_activity_logs_user_id_fkey";
            columns: ["user_id"];
            isOneToOne: false;
            referencedRelation: "profiles";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "user_activity_logs_user_id_fkey";
            columns: ["user_id"];
            isOneToOne: false;
            referencedRelation: "user_analytics";
            referencedColumns: ["id"];
          },
        ];
      };
    };
    Views: {
      credit_allocations: {
        Row: {
          amount: number | null;
          grant_id: string | null;
          transaction_id: string;
        };
        ComputedFields: never;
        Relationships: [];
      };
      revenue_analytics: {
        Row: {
          month: string | null;
          paid_transactions: number | null;
          total_credits: number | null;
          transaction_count: number | null;
          transaction_type: string | null;
        };
        ComputedFields: never;
        Relationships: [];
      };
      user_analytics: {
        Row: {
          completed_images: number | null;
          credits_remaining: number;
          email: string;
          failed_images: number | null;
          id: string;
          last_image_created: string | null;
          subscription_status: string;
          total_credits_purchased: number;
          total_credits_used: number;
          total_images: number | null;
          user_created_at: string;
        };
        ComputedFields: never;
        Relationships: [];
      };
    };
    Functions: {
      add_user_credits: {
        Args: {
          p_amount: number;
          p_description?: string;
          p_idempotency_key?: string;
          p_metadata?: Json;
          p_transaction_type: string;
          p_user_id: string;
        };
        Returns: number;
      };
      admin_adjust_credits: {
        Args: {
          p_amount: number;
          p_expires_at?: string;
          p_idempotency_key?: string;
          p_reason: string;
          p_user_id: string;
        };
        Returns: {
          allocations: Database["public"]["CompositeTypes"]["credit_allocation"][] | null;
          amount: number;
          balance_after: number;
          balance_before: number;
          clawback_id: string | null;
          created_at: string;
          description: string | null;
          expires_at: string | null;
          id: string;
          idempotency_key: string | null;
          metadata: Json | null;
          pay_as_you_go_package_id: string | null;
          refunded_transaction_id: string | null;
          seq: number;
          stripe_payment_intent_id: string | null;
          subscription_plan_id: string | null;
          transaction_type: string;
          user_id: string;
        };
        SetofOptions: {
          from: "*";
          to: "credit_transactions";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      admin_cancel_image_operation: {
        Args: { p_operation_id: string; p_reason: string };
        Returns: {
          api_cost: number | null;
          api_provider: string;
          attempts: number;
          completed_at: string | null;
          created_at: string;
          credits_refunded: number;
          credits_used: number;
          error_message: string | null;
          id: string;
          idempotency_key: string | null;
          image_id: string;
          input_data: NonNullable<Json>;
          lease_expires_at: string | null;
          lease_token: string | null;
          max_attempts: number;
          operation_type: string;
          options: NonNullable<Json>;
          output_data: Json | null;
          priority: number;
          processing_time: number | null;
          queue_tag: number;
          run_after: string;
          started_at: string | null;
          status: string;
          user_id: string;
          worker_id: string | null;
        };
        SetofOptions: {
          from: "*";
          to: "image_operations";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      admin_comp_subscription: {
        Args: { p_months: number; p_plan: string; p_reason: string; p_user_id: string };
        Returns: {
          cancel_at: string | null;
          cancelled_at: string | null;
          created_at: string;
          current_period_end: string | null;
          ended_at: string | null;
          id: string;
          started_at: string;
          status: string;
          stripe_subscription_id: string | null;
          subscription_plan_id: string | null;
          user_id: string;
        };
        SetofOptions: {
          from: "*";
          to: "subscription_history";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      admin_refund_transaction: {
        Args: { p_idempotency_key?: string; p_reason: string; p_transaction_id: string };
        Returns: {
          allocations: Database["public"]["CompositeTypes"]["credit_allocation"][] | null;
          amount: number;
          balance_after: number;
          balance_before: number;
          clawback_id: string | null;
          created_at: string;
          description: string | null;
          expires_at: string | null;
          id: string;
          idempotency_key: string | null;
          metadata: Json | null;
          pay_as_you_go_package_id: string | null;
          refunded_transaction_id: string | null;
          seq: number;
          stripe_payment_intent_id: string | null;
          subscription_plan_id: string | null;
          transaction_type: string;
          user_id: string;
        };
        SetofOptions: {
          from: "*";
          to: "credit_transactions";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      admin_set_user_active: {
        Args: { p_is_active: boolean; p_reason: string; p_user_id: string };
        Returns: {
          avatar_url: string | null;
          company: string | null;
          created_at: string;
          credit_debt: number;
          credits_remaining: number;
          email: string;
          first_name: string | null;
          id: string;
          is_active: boolean;
          is_admin: boolean;
          last_activity_at: string | null;
          last_name: string | null;
          ledger_version: number;
          marketing_emails: boolean;
          marketing_emails_set_at: string | null;
          notification_emails: boolean;
          phone: string | null;
          stripe_customer_id: string | null;
          stripe_subscription_id: string | null;
          subscription_plan: string;
          subscription_status: string;
          total_credits_purchased: number;
          total_credits_used: number;
          updated_at: string;
        };
        SetofOptions: {
          from: "*";
          to: "profiles";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      admin_set_user_admin: {
        Args: { p_is_admin: boolean; p_reason: string; p_user_id: string };
        Returns: {
          avatar_url: string | null;
          company: string | null;
          created_at: string;
          credit_debt: number;
          credits_remaining: number;
          email: string;
          first_name: string | null;
          id: string;
          is_active: boolean;
          is_admin: boolean;
          last_activity_at: string | null;
          last_name: string | null;
          ledger_version: number;
          marketing_emails: boolean;
          marketing_emails_set_at: string | null;
          notification_emails: boolean;
          phone: string | null;
          stripe_customer_id: string | null;
          stripe_subscription_id: string | null;
          subscription_plan: string;
          subscription_status: string;
          total_credits_purchased: number;
          total_credits_used: number;
          updated_at: string;
        };
        SetofOptions: {
          from: "*";
          to: "profiles";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      apply_stripe_event: {
        Args: { p_event_id: string; p_facts: Json; p_payload: Json; p_ticket: number; p_type: string };
        Returns: {
          attempts: number;
          error: string | null;
          id: string;
          payload: NonNullable<Json>;
          processed_at: string | null;
          received_at: string;
          status: string;
          type: string;
        };
        SetofOptions: {
          from: "*";
          to: "stripe_events";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      attach_checkout_session: {
        Args: { p_order_id: string; p_session_id: string };
        Returns: {
          amount: number | null;
          closed_at: string | null;
          created_at: string;
          credits: number | null;
          currency: string | null;
          id: string;
          pay_as_you_go_package_id: string | null;
          receipt_url: string | null;
          status: string;
          stripe_checkout_session_id: string | null;
          stripe_price_id: string;
          subscription_plan_id: string | null;
          trial_days: number;
          user_id: string;
        };
        SetofOptions: {
          from: "*";
          to: "billing_orders";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      cancel_email_campaign: {
        Args: { p_campaign_id: string };
        Returns: {
          cancelled_at: string | null;
          created_at: string;
          emails_per_minute: number;
          expanded_at: string | null;
          expanded_to: string | null;
          id: string;
          name: string;
          next_email_at: string | null;
          scheduled_at: string | null;
          sent_at: string | null;
          started_at: string | null;
          status: string;
          target_audience: Json | null;
          template_id: string | null;
        };
        SetofOptions: {
          from: "*";
          to: "email_campaigns";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      cancel_image_operation: {
        Args: { p_operation_id: string };
        Returns: {
          api_cost: number | null;
          api_provider: string;
          attempts: number;
          completed_at: string | null;
          created_at: string;
          credits_refunded: number;
          credits_used: number;
          error_message: string | null;
          id: string;
          idempotency_key: string | null;
          image_id: string;
          input_data: NonNullable<Json>;
          lease_expires_at: string | null;
          lease_token: string | null;
          max_attempts: number;
          operation_type: string;
          options: NonNullable<Json>;
          output_data: Json | null;
          priority: number;
          processing_time: number | null;
          queue_tag: number;
          run_after: string;
          started_at: string | null;
          status: string;
          user_id: string;
          worker_id: string | null;
        };
        SetofOptions: {
          from: "*";
          to: "image_operations";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      claim_emails: {
        Args: { p_claim_id: string; p_lease_seconds?: number; p_limit: number };
        Returns: Database["public"]["CompositeTypes"]["claimed_email"][];
        SetofOptions: {
          from: "*";
          to: "claimed_email";
          isOneToOne: false;
          isSetofReturn: true;
        };
      };
      claim_image_operations: {
        Args: {
          p_claim_id?: string;
          p_lease_seconds?: number;
          p_limit?: number;
          p_operation_types?: string[];
          p_worker_id: string;
        };
        Returns: Database["public"]["CompositeTypes"]["claimed_operation"][];
        SetofOptions: {
          from: "*";
          to: "claimed_operation";
          isOneToOne: false;
          isSetofReturn: true;
        };
      };
      clawback_credits: {
        Args: {
          p_amount?: number;
          p_currency?: string;
          p_grant_id: string;
          p_idempotency_key?: string;
          p_money_amount?: number;
          p_reason?: string;
        };
        Returns: {
          amount: number;
          created_at: string;
          currency: string | null;
          expired: number;
          grant_id: string;
          id: string;
          idempotency_key: string | null;
          money_amount: number | null;
          owed: number;
          reason: string;
          reversal_key: string | null;
          reversal_reason: string | null;
          reversed_at: string | null;
          user_id: string;
        };
        SetofOptions: {
          from: "*";
          to: "credit_clawbacks";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      complete_and_claim_image_operation: {
        Args: {
          p_api_provider: string;
          p_claim_id?: string;
          p_lease_seconds?: number;
          p_lease_token: string;
          p_operation_id: string;
          p_operation_types?: string[];
          p_output: Json;
          p_processing_time: number;
          p_usage: Json;
          p_worker_id: string;
        };
        Returns: Database["public"]["CompositeTypes"]["claimed_operation"][];
        SetofOptions: {
          from: "*";
          to: "claimed_operation";
          isOneToOne: false;
          isSetofReturn: true;
        };
      };
      complete_image_operation: {
        Args: {
          p_api_provider: string;
          p_lease_token: string;
          p_operation_id: string;
          p_output: Json;
          p_processing_time: number;
          p_usage?: Json;
        };
        Returns: {
          api_cost: number | null;
          api_provider: string;
          attempts: number;
          completed_at: string | null;
          created_at: string;
          credits_refunded: number;
          credits_used: number;
          error_message: string | null;
          id: string;
          idempotency_key: string | null;
          image_id: string;
          input_data: NonNullable<Json>;
          lease_expires_at: string | null;
          lease_token: string | null;
          max_attempts: number;
          operation_type: string;
          options: NonNullable<Json>;
          output_data: Json | null;
          priority: number;
          processing_time: number | null;
          queue_tag: number;
          run_after: string;
          started_at: string | null;
          status: string;
          user_id: string;
          worker_id: string | null;
        };
        SetofOptions: {
          from: "*";
          to: "image_operations";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      count_set_aside_rows: { Args: Record<PropertyKey, never>; Returns: number };
      deduct_user_credits: {
        Args: {
          p_amount: number;
          p_description?: string;
          p_idempotency_key?: string;
          p_metadata?: Json;
          p_transaction_type: string;
          p_user_id: string;
        };
        Returns: number;
      };
      delete_account: { Args: Record<PropertyKey, never>; Returns: undefined };
      delete_expired_images: {
        Args: { p_limit?: number };
        Returns: {
          image_id: string;
          object_keys: string[];
        }[];
      };
      delete_user_account: { Args: { p_reason: string; p_user_id: string }; Returns: undefined };
      email_campaign_report: {
        Args: { p_campaign_id: string };
        Returns: {
          bounce_rate: number;
          bounced: number;
          campaign_status: string;
          cancelled: number;
          click_rate: number;
          clicked: number;
          delivered: number;
          delivery_rate: number;
          failed: number;
          mails: number;
          open_rate: number;
          opened: number;
          queued: number;
          sending: number;
          sent: number;
          spam_reports: number;
          suppressed: number;
          unknown: number;
          unsubscribed: number;
        }[];
      };
      end_comped_subscriptions: { Args: { p_limit?: number }; Returns: number };
      expand_email_campaigns: {
        Args: { p_limit?: number };
        Returns: {
          campaign_id: string;
          campaign_status: string;
          queued: number;
        }[];
      };
      expire_credits: {
        Args: { p_limit?: number; p_now?: string };
        Returns: {
          credits: number;
          user_id: string;
        }[];
      };
      export_account: { Args: Record<PropertyKey, never>; Returns: Json };
      export_user_account: { Args: { p_user_id: string }; Returns: Json };
      extend_image_operation_lease: {
        Args: { p_lease_seconds?: number; p_lease_token: string; p_operation_id: string };
        Returns: string;
      };
      fail_image_operation: {
        Args: {
          p_api_provider?: string;
          p_error_message: string;
          p_lease_token: string;
          p_operation_id: string;
          p_retry_after_seconds?: number;
          p_retryable: boolean;
          p_usage?: Json;
        };
        Returns: {
          api_cost: number | null;
          api_provider: string;
          attempts: number;
          completed_at: string | null;
          created_at: string;
          credits_refunded: number;
          credits_used: number;
          error_message: string | null;
          id: string;
          idempotency_key: string | null;
          image_id: string;
          input_data: NonNullable<Json>;
          lease_expires_at: string | null;
          lease_token: string | null;
          max_attempts: number;
          operation_type: string;
          options: NonNullable<Json>;
          output_data: Json | null;
          priority: number;
          processing_time: number | null;
          queue_tag: number;
          run_after: string;
          started_at: string | null;
          status: string;
          user_id: string;
          worker_id: string | null;
        };
        SetofOptions: {
          from: "*";
          to: "image_operations";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      fail_stripe_event: {
        Args: { p_error: string; p_event_id: string; p_payload: Json; p_type: string };
        Returns: {
          attempts: number;
          error: string | null;
          id: string;
          payload: NonNullable<Json>;
          processed_at: string | null;
          received_at: string;
          status: string;
          type: string;
        };
        SetofOptions: {
          from: "*";
          to: "stripe_events";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      grant_credits: {
        Args: {
          p_amount: number;
          p_currency?: string;
          p_description?: string;
          p_expires_at?: string;
          p_idempotency_key?: string;
          p_metadata?: Json;
          p_money_amount?: number;
          p_pay_as_you_go_package_id?: string;
          p_priority?: number;
          p_source?: string;
          p_stripe_payment_intent_id?: string;
          p_subscription_plan_id?: string;
          p_transaction_type: string;
          p_user_id: string;
        };
        Returns: {
          amount: number;
          created_at: string;
          currency: string | null;
          expires_at: string | null;
          id: string;
          is_spent: boolean;
          money_amount: number | null;
          priority: number;
          remaining: number;
          seq: number;
          source: string;
          transaction_id: string;
          user_id: string;
        };
        SetofOptions: {
          from: "*";
          to: "credit_grants";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      link_stripe_customer: {
        Args: { p_email?: string; p_stripe_customer_id: string; p_user_id: string };
        Returns: string;
      };
      mark_lost_emails: { Args: { p_limit?: number }; Returns: number };
      missing_triggers: { Args: Record<PropertyKey, never>; Returns: string[] };
      orphaned_storage_objects: {
        Args: { p_limit?: number };
        Returns: {
          bucket_id: string;
          name: string;
        }[];
      };
      place_billing_order: {
        Args: { p_stripe_price_id: string; p_user_id: string };
        Returns: {
          amount: number | null;
          closed_at: string | null;
          created_at: string;
          credits: number | null;
          currency: string | null;
          id: string;
          pay_as_you_go_package_id: string | null;
          receipt_url: string | null;
          status: string;
          stripe_checkout_session_id: string | null;
          stripe_price_id: string;
          subscription_plan_id: string | null;
          trial_days: number;
          user_id: string;
        };
        SetofOptions: {
          from: "*";
          to: "billing_orders";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      preview_email_campaign: {
        Args: { p_campaign_id: string };
        Returns: {
          audience: number;
          excluded: Json;
          recipients: number;
          sample: string[];
        }[];
      };
      prune_logs: { Args: { p_before: string; p_limit?: number }; Returns: number };
      public_collection_images: {
        Args: { p_collection_id: string };
        Returns: {
          added_at: string;
          final_url: string;
          image_id: string;
          original_filename: string;
          thumbnail_url: string;
        }[];
      };
      queue_expiring_credit_emails: { Args: { p_limit?: number }; Returns: number };
      queue_expiring_image_emails: { Args: { p_limit?: number }; Returns: number };
      quote_image_operation: { Args: { p_operation_type: string; p_options?: Json }; Returns: number };
      reconcile_stripe: { Args: { p_apply?: boolean; p_facts: Json; p_ticket: number }; Returns: Json };
      record_email_events: { Args: { p_events: Json }; Returns: Json };
      record_image_download: { Args: { p_image_id: string }; Returns: number };
      record_system_metrics: { Args: Record<PropertyKey, never>; Returns: number };
      refresh_stats: { Args: { p_from?: string; p_limit?: number }; Returns: number };
      refund_transaction: {
        Args: { p_description?: string; p_idempotency_key?: string; p_transaction_id: string };
        Returns: {
          allocations: Database["public"]["CompositeTypes"]["credit_allocation"][] | null;
          amount: number;
          balance_after: number;
          balance_before: number;
          clawback_id: string | null;
          created_at: string;
          description: string | null;
          expires_at: string | null;
          id: string;
          idempotency_key: string | null;
          metadata: Json | null;
          pay_as_you_go_package_id: string | null;
          refunded_transaction_id: string | null;
          seq: number;
          stripe_payment_intent_id: string | null;
          subscription_plan_id: string | null;
          transaction_type: string;
          user_id: string;
        };
        SetofOptions: {
          from: "*";
          to: "credit_transactions";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      release_image_operation: {
        Args: { p_lease_token: string; p_operation_id: string };
        Returns: {
          api_cost: number | null;
          api_provider: string;
          attempts: number;
          completed_at: string | null;
          created_at: string;
          credits_refunded: number;
          credits_used: number;
          error_message: string | null;
          id: string;
          idempotency_key: string | null;
          image_id: string;
          input_data: NonNullable<Json>;
          lease_expires_at: string | null;
          lease_token: string | null;
          max_attempts: number;
          operation_type: string;
          options: NonNullable<Json>;
          output_data: Json | null;
          priority: number;
          processing_time: number | null;
          queue_tag: number;
          run_after: string;
          started_at: string | null;
          status: string;
          user_id: string;
          worker_id: string | null;
        };
        SetofOptions: {
          from: "*";
          to: "image_operations";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      request_image_operation: {
        Args: { p_idempotency_key?: string; p_image_id: string; p_operation_type: string; p_options?: Json };
        Returns: {
          api_cost: number | null;
          api_provider: string;
          attempts: number;
          completed_at: string | null;
          created_at: string;
          credits_refunded: number;
          credits_used: number;
          error_message: string | null;
          id: string;
          idempotency_key: string | null;
          image_id: string;
          input_data: NonNullable<Json>;
          lease_expires_at: string | null;
          lease_token: string | null;
          max_attempts: number;
          operation_type: string;
          options: NonNullable<Json>;
          output_data: Json | null;
          priority: number;
          processing_time: number | null;
          queue_tag: number;
          run_after: string;
          started_at: string | null;
          status: string;
          user_id: string;
          worker_id: string | null;
        };
        SetofOptions: {
          from: "*";
          to: "image_operations";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      requeue_lost_image_operations: { Args: { p_limit?: number }; Returns: number };
      retry_email: {
        Args: { p_email_id: string; p_reason: string };
        Returns: {
          attempts: number;
          campaign_id: string | null;
          clicked_at: string | null;
          created_at: string;
          data: NonNullable<Json>;
          dedupe_key: string;
          delivered_at: string | null;
          error: string | null;
          id: string;
          lease_expires_at: string | null;
          lease_token: string | null;
          next_attempt_at: string;
          opened_at: string | null;
          recipient: string | null;
          sendgrid_message_id: string | null;
          sent_at: string | null;
          status: string;
          template_id: string | null;
          user_id: string | null;
        };
        SetofOptions: {
          from: "*";
          to: "email_logs";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      retry_set_aside_rows: {
        Args: { p_row_id?: string };
        Returns: {
          input: NonNullable<Json>;
          reason: string;
          row_id: string;
          set_aside_at: string;
          sqlstate: string;
          task: string;
          user_id: string | null;
        }[];
        SetofOptions: {
          from: "*";
          to: "set_aside_rows";
          isOneToOne: false;
          isSetofReturn: true;
        };
      };
      reverse_clawback: {
        Args: { p_clawback_id: string; p_idempotency_key?: string; p_reason: string };
        Returns: {
          amount: number;
          created_at: string;
          currency: string | null;
          expired: number;
          grant_id: string;
          id: string;
          idempotency_key: string | null;
          money_amount: number | null;
          owed: number;
          reason: string;
          reversal_key: string | null;
          reversal_reason: string | null;
          reversed_at: string | null;
          user_id: string;
        };
        SetofOptions: {
          from: "*";
          to: "credit_clawbacks";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      schedule_email_campaign: {
        Args: { p_at?: string; p_campaign_id: string };
        Returns: {
          cancelled_at: string | null;
          created_at: string;
          emails_per_minute: number;
          expanded_at: string | null;
          expanded_to: string | null;
          id: string;
          name: string;
          next_email_at: string | null;
          scheduled_at: string | null;
          sent_at: string | null;
          started_at: string | null;
          status: string;
          target_audience: Json | null;
          template_id: string | null;
        };
        SetofOptions: {
          from: "*";
          to: "email_campaigns";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      settle_emails: { Args: { p_lease_token: string; p_results: Json }; Returns: number };
      start_stripe_read: { Args: { p_event_id?: string }; Returns: Json };
      stats_engines: {
        Args: { p_from?: string; p_to?: string };
        Returns: {
          api_provider: string;
          completed: number;
          failed: number;
          failure_rate: number;
          operation_type: string;
          retried: number;
          run_p50_seconds: number;
          run_p95_seconds: number;
          wait_p50_seconds: number;
          wait_p95_seconds: number;
        }[];
      };
      stats_funnel: {
        Args: { p_first_month?: string; p_last_month?: string };
        Returns: {
          month: string;
          operated: number;
          paid: number;
          signed_up: number;
          uploaded: number;
        }[];
      };
      stats_margins: {
        Args: { p_first_month?: string; p_last_month?: string };
        Returns: {
          credits: number;
          earned: Json;
          free_credits: number;
          margin: number;
          month: string;
          operation_type: string;
          operations: number;
          provider_calls: number;
          provider_cost: number;
          unpriced_calls: number;
        }[];
      };
      stats_queue: {
        Args: Record<PropertyKey, never>;
        Returns: {
          delayed: number;
          lost: number;
          oldest_wait_seconds: number;
          operation_type: string;
          running: number;
          waiting: number;
        }[];
      };
      stats_retention: {
        Args: { p_first_month?: string; p_last_month?: string };
        Returns: {
          accounts: number;
          active: number;
          cohort: string;
          month: string;
          month_number: number;
        }[];
      };
      stats_revenue: {
        Args: { p_first_month?: string; p_last_month?: string };
        Returns: {
          credits: number;
          currency: string;
          month: string;
          net: number;
          payments: number;
          product: string;
          product_id: string;
          product_type: string;
          received: number;
          returned: number;
        }[];
      };
      unsubscribe_from_emails: { Args: { p_user_id: string }; Returns: boolean };
      upload_usage: {
        Args: Record<PropertyKey, never>;
        Returns: {
          limit_bytes: number;
          used_bytes: number;
        }[];
      };
      user_upload_usage: {
        Args: { p_user_id: string };
        Returns: {
          limit_bytes: number;
          used_bytes: number;
        }[];
      };
      verify_ledger: {
        Args: Record<PropertyKey, never>;
        Returns: {
          detail: Json;
          invariant: string;
          user_id: string;
        }[];
      };
    };
    Enums: {
      [_ in never]: never;
    };
    CompositeTypes: {
      claimed_email: {
        id: string | null;
        user_id: string | null;
        campaign_id: string | null;
        type: string | null;
        category: string | null;
        recipient: string | null;
        template_id: string | null;
        sendgrid_template_id: string | null;
        subject: string | null;
        html_content: string | null;
        text_content: string | null;
        data: Json | null;
        attempts: number | null;
        lease_token: string | null;
        lease_expires_at: string | null;
        created_at: string | null;
      };
      claimed_operation: {
        id: string | null;
        image_id: string | null;
        user_id: string | null;
        operation_type: string | null;
        options: Json | null;
        input_url: string | null;
        original_filename: string | null;
        attempts: number | null;
        max_attempts: number | null;
        lease_token: string | null;
        lease_expires_at: string | null;
        created_at: string | null;
      };
      credit_allocation: {
        grant_id: string | null;
        amount: number | null;
      };
    };
  };
};

type DatabaseWithoutInternals = Omit<Database, "__InternalSupabase">;

type DefaultSchema = DatabaseWithoutInternals[Extract<keyof Database, "public">];

export type Tables<
  DefaultSchemaTableNameOrOptions extends
    keyof (DefaultSchema["Tables"] & DefaultSchema["Views"]) | { schema: keyof DatabaseWithoutInternals },
  TableName extends (DefaultSchemaTableNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  }
    ? keyof (DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"] &
        DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Views"])
    : never) = never,
> = DefaultSchemaTableNameOrOptions extends { schema: keyof DatabaseWithoutInternals }
  ? (DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"] &
      DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Views"])[TableName] extends {
      Row: infer R;
    }
    ? R
    : never
  : DefaultSchemaTableNameOrOptions extends keyof (DefaultSchema["Tables"] & DefaultSchema["Views"])
    ? (DefaultSchema["Tables"] & DefaultSchema["Views"])[DefaultSchemaTableNameOrOptions] extends {
        Row: infer R;
      }
      ? R
      : never
    : never;

export type TablesInsert<
  DefaultSchemaTableNameOrOptions extends keyof DefaultSchema["Tables"] | { schema: keyof DatabaseWithoutInternals },
  TableName extends (DefaultSchemaTableNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  }
    ? keyof DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"]
    : never) = never,
> = DefaultSchemaTableNameOrOptions extends { schema: keyof DatabaseWithoutInternals }
  ? DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"][TableName] extends {
      Insert: infer I;
    }
    ? I
    : never
  : DefaultSchemaTableNameOrOptions extends keyof DefaultSchema["Tables"]
    ? DefaultSchema["Tables"][DefaultSchemaTableNameOrOptions] extends {
        Insert: infer I;
      }
      ? I
      : never
    : never;

export type TablesUpdate<
  DefaultSchemaTableNameOrOptions extends keyof DefaultSchema["Tables"] | { schema: keyof DatabaseWithoutInternals },
  TableName extends (DefaultSchemaTableNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  }
    ? keyof DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"]
    : never) = never,
> = DefaultSchemaTableNameOrOptions extends { schema: keyof DatabaseWithoutInternals }
  ? DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"][TableName] extends {
      Update: infer U;
    }
    ? U
    : never
  : DefaultSchemaTableNameOrOptions extends keyof DefaultSchema["Tables"]
    ? DefaultSchema["Tables"][DefaultSchemaTableNameOrOptions] extends {
        Update: infer U;
      }
      ? U
      : never
    : never;

export type Enums<
  DefaultSchemaEnumNameOrOptions extends keyof DefaultSchema["Enums"] | { schema: keyof DatabaseWithoutInternals },
  EnumName extends (DefaultSchemaEnumNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  }
    ? keyof DatabaseWithoutInternals[DefaultSchemaEnumNameOrOptions["schema"]]["Enums"]
    : never) = never,
> = DefaultSchemaEnumNameOrOptions extends { schema: keyof DatabaseWithoutInternals }
  ? DatabaseWithoutInternals[DefaultSchemaEnumNameOrOptions["schema"]]["Enums"][EnumName]
  : DefaultSchemaEnumNameOrOptions extends keyof DefaultSchema["Enums"]
    ? DefaultSchema["Enums"][DefaultSchemaEnumNameOrOptions]
    : never;

export type CompositeTypes<
  PublicCompositeTypeNameOrOptions extends
    keyof DefaultSchema["CompositeTypes"] | { schema: keyof DatabaseWithoutInternals },
  CompositeTypeName extends (PublicCompositeTypeNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  }
    ? keyof DatabaseWithoutInternals[PublicCompositeTypeNameOrOptions["schema"]]["CompositeTypes"]
    : never) = never,
> = PublicCompositeTypeNameOrOptions extends { schema: keyof DatabaseWithoutInternals }
  ? DatabaseWithoutInternals[PublicCompositeTypeNameOrOptions["schema"]]["CompositeTypes"][CompositeTypeName]
  : PublicCompositeTypeNameOrOptions extends keyof DefaultSchema["CompositeTypes"]
    ? DefaultSchema["CompositeTypes"][PublicCompositeTypeNameOrOptions]
    : never;

export const Constants = {
  public: {
    Enums: {},
  },
} as const;
