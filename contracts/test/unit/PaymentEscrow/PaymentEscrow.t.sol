// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {PaymentEscrowAllocate} from "./allocate.t.sol";
import {PaymentEscrowWithdrawBond} from "./withdrawBond.t.sol";
import {PaymentEscrowAddBond} from "./addBond.t.sol";
import {PaymentEscrowDebit} from "./debit.t.sol";
import {PaymentEscrowDeposit} from "./deposit.t.sol";
import {PaymentEscrowDepositWithPermit} from "./depositWithPermit.t.sol";
import {PaymentEscrowRevokeLimit} from "./revokeLimit.t.sol";
import {PaymentEscrowSetLimit} from "./setLimit.t.sol";
import {PaymentEscrowWithdraw} from "./withdraw.t.sol";

/// @notice All of the contract's functions in one: a test contract costs seconds to compile.
contract PaymentEscrowTest is
    PaymentEscrowAllocate,
    PaymentEscrowWithdrawBond,
    PaymentEscrowAddBond,
    PaymentEscrowDebit,
    PaymentEscrowDeposit,
    PaymentEscrowDepositWithPermit,
    PaymentEscrowRevokeLimit,
    PaymentEscrowSetLimit,
    PaymentEscrowWithdraw
{}
