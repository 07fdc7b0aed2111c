// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

/// @notice Everything that parties can do in a network without slashes and without waiting: each action bounds its input so that it never reverts.
/// @dev The contract is its own handler, and keeps the sums that the invariants compare with.
abstract contract StaticHandler is Network {
    uint256 internal constant DELEGATORS = 3;

    uint64 internal number;
    uint128 internal cumulative;
    /// @dev What has gone out of the escrow into a provider's and others' hands, by what the calls returned.
    uint256 internal released;
    address[] internal delegators;

    function setUp() public virtual override {
        super.setUp();
        _registerModel(500);
        _joinProvider();
        _joinVerifiers();
        _attest();
        _fundPayer(1_000 ether);
        _bond(500 ether, 500 ether);
        for (uint256 i; i < DELEGATORS; ++i) {
            delegators.push(makeAddr(string.concat("delegator", vm.toString(i))));
        }
        token.approve(address(rewards), 10_000 ether);
        rewards.fund(10_000 ether);
        targetContract(address(this));
        targetSelector(FuzzSelector(address(this), _actions()));
    }

    function _actions() internal pure virtual returns (bytes4[] memory actions) {
        actions = new bytes4[](11);
        actions[0] = this.stakeNoRevert.selector;
        actions[1] = this.unbondNoRevert.selector;
        actions[2] = this.delegateNoRevert.selector;
        actions[3] = this.undelegateNoRevert.selector;
        actions[4] = this.depositNoRevert.selector;
        actions[5] = this.limitNoRevert.selector;
        actions[6] = this.redeemNoRevert.selector;
        actions[7] = this.anchorNoRevert.selector;
        actions[8] = this.bondNoRevert.selector;
        actions[9] = this.thawNoRevert.selector;
        actions[10] = this.commissionNoRevert.selector;
    }

    function stakeNoRevert(uint96 amount) external {
        _stake(owner, uint96(bound(amount, 1, 1_000 ether)));
    }

    function unbondNoRevert(uint96 amount) external {
        uint256 active = staking.stakeOf(owner);
        uint256 locked = commitments.inFlight(owner);
        if (active <= locked) return;
        vm.prank(owner);
        staking.beginUnbonding(uint128(bound(amount, 1, active - locked)));
    }

    function delegateNoRevert(uint256 who, uint96 amount) external {
        // A pool that a slash has emptied buys shares without bound.
        IStaking.Pool memory p = staking.poolOf(owner);
        if (p.shares > 1e9 && p.delegated < 1 ether) return;
        delegator = delegators[who % DELEGATORS];
        _delegate(owner, uint96(bound(amount, 1 ether, 10_000 ether)));
    }

    function undelegateNoRevert(uint256 who, uint128 shares) external {
        address account = delegators[who % DELEGATORS];
        uint256 has = staking.sharesOf(owner, account);
        if (has == 0) return;
        shares = uint128(bound(shares, 1, has));
        uint256 worth = staking.delegationOf(owner, account);
        vm.prank(account);
        try staking.undelegate(owner, shares) returns (uint256 amount) {
            assertLe(amount, worth);
        } catch (bytes memory reason) {
            assertEq(bytes4(reason), IStaking.ZeroAmount.selector);
        }
    }

    function depositNoRevert(uint96 amount) external {
        amount = uint96(bound(amount, 1, 100 ether));
        token.approve(address(escrow), amount);
        escrow.deposit(payer, amount);
    }

    function limitNoRevert(uint88 more) external {
        IPaymentEscrow.Limit memory limit = escrow.limitOf(payer, gateway);
        if (limit.revokedAt != 0) return;
        uint128 amount = limit.amountPerPeriod + uint128(bound(more, 0, 10 ether));
        vm.prank(payer);
        escrow.setLimit(gateway, amount, 1 days, limit.expiry + 1, new bytes32[](0));
    }

    function redeemNoRevert(uint96 amount) external {
        uint128 before = settlement.redeemedOf(payer, gateway, owner, modelId);
        cumulative += uint96(bound(amount, 1, 10 ether));
        (uint256 fromPayer, uint256 fromBond) = escrow.available(payer, gateway, owner, modelId);
        _redeem(cumulative);
        uint128 taken = settlement.redeemedOf(payer, gateway, owner, modelId) - before;
        uint256 wanted = cumulative - before;
        assertEq(taken, wanted < fromPayer + fromBond ? wanted : fromPayer + fromBond);
    }

    function anchorNoRevert(uint96 amount) external {
        _anchor(_receipt(++number, uint96(bound(amount, 1, 10 ether))));
    }

    function bondNoRevert(uint96 amount) external {
        amount = uint96(bound(amount, 1, 10 ether));
        token.approve(address(escrow), amount);
        escrow.addBond(gateway, amount);
        IPaymentEscrow.Bond memory bond = escrow.bondOf(gateway);
        uint96 free = bond.balance - bond.thawing;
        vm.prank(gateway);
        escrow.allocate(owner, free);
    }

    function thawNoRevert(uint96 amount) external {
        vm.prank(payer);
        escrow.startWithdrawal(uint96(bound(amount, 1, 1_000 ether)));
    }

    function commissionNoRevert(uint16 bps) external {
        vm.prank(owner);
        staking.setCommission(uint16(bound(bps, 0, 5_000)));
    }

    // what must always hold

    function _stakeParts() internal view returns (uint256 sum) {
        sum = uint256(staking.stakeOf(owner)) + staking.poolOf(owner).delegated;
        for (uint256 i; i < VERIFIERS; ++i) {
            sum += staking.stakeOf(judges[i]);
        }
        sum += _waiting(owner);
        for (uint256 i; i < DELEGATORS; ++i) {
            sum += _waiting(delegators[i]);
        }
    }

    function _waiting(address account) internal view returns (uint256 sum) {
        IStaking.Unbonding[] memory list = staking.unbondingsOf(owner, account, 1_000);
        for (uint256 i; i < list.length; ++i) {
            sum += list[i].amount;
        }
    }

    function _earned() internal view returns (uint256) {
        (uint96 toTreasury, uint96 toBurn) = settlement.sweepable();
        uint256 pots;
        for (uint64 epoch; epoch <= verifiers.currentEpoch() && epoch < 4_000; ++epoch) {
            pots += settlement.pot(epoch);
        }
        return settlement.heldOf(owner, modelId) + pots + toTreasury + toBurn;
    }

    /// @dev Property 1. Rounding leaves a wei for each withdrawal in its bucket, never the other way.
    function invariant_staking__holds_self_pools_unbonding_and_unburned() public view {
        assertEq(staking.ledger(), token.balanceOf(address(staking)));
        assertLe(_stakeParts(), staking.ledger());
    }

    /// @dev Property 3.
    function invariant_shares__sum_to_the_pools() public view {
        uint256 sum;
        for (uint256 i; i < DELEGATORS; ++i) {
            sum += staking.sharesOf(owner, delegators[i]);
        }
        assertEq(sum, staking.poolOf(owner).shares);
    }

    /// @dev Property 8: shares are never worth more than the pool.
    function invariant_delegations__are_worth_no_more_than_the_pool() public view {
        uint256 sum;
        for (uint256 i; i < DELEGATORS; ++i) {
            sum += staking.delegationOf(owner, delegators[i]);
        }
        assertLe(sum, staking.poolOf(owner).delegated);
    }

    /// @dev Property 6.
    function invariant_rewards__owed_and_unallocated_are_funded() public view {
        assertEq(rewards.ledger(), token.balanceOf(address(rewards)));
        assertLe(rewards.unallocated(), rewards.ledger());
    }

    /// @dev Property 15.
    function invariant_numbers__follow_one_another() public view {
        assertEq(commitments.lastNumber(owner), number);
    }

    /// @dev A gateway's allocations never exceed its bond.
    function invariant_bond__covers_what_is_allocated() public view {
        IPaymentEscrow.Bond memory bond = escrow.bondOf(gateway);
        assertLe(uint256(bond.allocated) + bond.thawing, bond.balance);
        assertEq(bond.allocated, escrow.allocationOf(gateway, owner));
    }
}
